"""The old path of `chronotick.shm.config`."""

from chronotick.shm.config import (
    CACHE_LINE_SIZE,
    LAYOUT_FORMAT,
    LAYOUT_SIZE,
    SHARED_MEMORY_NAME,
    SHARED_MEMORY_SIZE,
    ChronoTickData,
    CorrectionSource,
    StatusFlags,
    benchmark_read_latency,
    create_default_data,
    read_data,
    read_data_with_retry,
    write_data,
)

__all__ = [
    "CACHE_LINE_SIZE",
    "LAYOUT_FORMAT",
    "LAYOUT_SIZE",
    "SHARED_MEMORY_NAME",
    "SHARED_MEMORY_SIZE",
    "ChronoTickData",
    "CorrectionSource",
    "StatusFlags",
    "benchmark_read_latency",
    "create_default_data",
    "read_data",
    "read_data_with_retry",
    "write_data",
]
