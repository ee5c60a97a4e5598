"""The first ChronoTick's import name, for existing programs: everything here is `chronotick`'s. New programs import that."""

from chronotick import (
    SHARED_MEMORY_NAME,
    SHARED_MEMORY_SIZE,
    ChronoTickClient,
    ChronoTickData,
    CorrectedTime,
    CorrectionSource,
    StatusFlags,
    __version__,
    get_current_time,
    read_data,
    read_data_with_retry,
    write_data,
)

__all__ = [
    "SHARED_MEMORY_NAME",
    "SHARED_MEMORY_SIZE",
    "ChronoTickClient",
    "ChronoTickData",
    "CorrectedTime",
    "CorrectionSource",
    "StatusFlags",
    "__version__",
    "get_current_time",
    "read_data",
    "read_data_with_retry",
    "write_data",
]
