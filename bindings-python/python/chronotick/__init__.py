"""Corrected time with a hard bound, read from the clock page that chronotick-daemon publishes."""

from chronotick._native import Reading, __version__, evaluate
from chronotick.client import ChronoTickClient, CorrectedTime, get_current_time
from chronotick.errors import (
    ChronoTickError,
    DaemonNotRunningError,
    InvalidArgumentError,
    TargetPastError,
)

__all__ = [
    "ChronoTickClient",
    "ChronoTickError",
    "CorrectedTime",
    "DaemonNotRunningError",
    "InvalidArgumentError",
    "Reading",
    "TargetPastError",
    "__version__",
    "evaluate",
    "get_current_time",
]
