"""The old path of `chronotick.eval.benchmark`."""

from chronotick.eval.benchmark import ChronoTickClient, main
from chronotick.shm.config import SHARED_MEMORY_NAME, ChronoTickData, benchmark_read_latency, read_data_with_retry

__all__ = [
    "SHARED_MEMORY_NAME",
    "ChronoTickClient",
    "ChronoTickData",
    "benchmark_read_latency",
    "main",
    "read_data_with_retry",
]

if __name__ == "__main__":
    raise SystemExit(main())
