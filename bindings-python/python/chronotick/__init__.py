"""Corrected time with a hard bound, read from the clock page that chronotick-daemon publishes."""

from chronotick._native import Reading, __version__, evaluate
from chronotick.client import ChronoTickClient, CorrectedTime, get_current_time
from chronotick.errors import (
    ChronoTickError,
    ClientClosedError,
    DaemonNotRunningError,
    InvalidArgumentError,
    TargetPastError,
)
from chronotick.shm.config import (
    SHARED_MEMORY_NAME,
    SHARED_MEMORY_SIZE,
    ChronoTickData,
    CorrectionSource,
    StatusFlags,
    read_data,
    read_data_with_retry,
    write_data,
)

__all__ = [
    "SHARED_MEMORY_NAME",
    "SHARED_MEMORY_SIZE",
    "ChronoTickClient",
    "ChronoTickData",
    "ChronoTickError",
    "ClientClosedError",
    "CorrectedTime",
    "CorrectionSource",
    "DaemonNotRunningError",
    "InvalidArgumentError",
    "Reading",
    "StatusFlags",
    "TargetPastError",
    "__version__",
    "evaluate",
    "get_current_time",
    "read_data",
    "read_data_with_retry",
    "write_data",
]
