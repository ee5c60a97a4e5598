"""Types of the native module; finished by hand and compared with it by stubtest."""

from pathlib import Path
from typing import Literal, final

from chronotick.client import CorrectedTime

__all__ = ["ERROR_CODES", "Alarm", "ClockPage", "Reading", "__version__", "evaluate", "verify_envelope", "verify_webhook"]

__version__: str
ERROR_CODES: tuple[str, ...]

@final
class Reading:
    """The time, as the clock page tells it: a value, its bound, and how far to trust it."""

    @property
    def corrected_ns(self) -> int:
        """The best estimate of the true time, Unix ns."""
    @property
    def earliest_ns(self) -> int | None:
        """The true time is not before this, Unix ns; None without a bound."""
    @property
    def latest_ns(self) -> int | None:
        """The true time is not after this, Unix ns; None without a bound."""
    @property
    def max_error_ns(self) -> int | None:
        """Half the width of the bound, ns; None without a bound."""
    @property
    def age_ns(self) -> int:
        """How old the correction is, ns."""
    def before(self, other: Reading) -> bool:
        """True when this moment was certainly before that of the other reading."""
    def after(self, other: Reading) -> bool:
        """True when this moment was certainly after that of the other reading."""
    @property
    def sigma_ns(self) -> int:
        """One standard deviation of the estimate, ns."""
    @property
    def status(
        self,
    ) -> Literal["synchronized", "warming_up", "holdover", "disrupted", "expired", "legacy", "no_data"]:
        """How far to trust the reading."""
    @property
    def source(self) -> Literal["no_data", "ntp", "cpu_model", "gpu_model", "fusion"]:
        """What the correction was computed from."""
    @property
    def confidence(self) -> float:
        """The daemon's confidence, 0 to 1."""
    @property
    def system_ns(self) -> int:
        """The system clock at the reading, Unix ns."""
    @property
    def drift_rate(self) -> float:
        """The rate of the correction, s/s."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Alarm:
    """A timer that is readable from a moment of `CLOCK_BOOTTIME` on."""

    def __new__(cls) -> Alarm: ...
    def fileno(self) -> int:
        """What an event loop watches."""
    def set(self, boottime_ns: int) -> None:
        """Readable from this moment on, and no longer of the moment before; at once if it has passed."""

@final
class ClockPage:
    """An attached clock page. All threads may share one."""

    def __new__(cls, name: str | None = None) -> ClockPage: ...
    @property
    def path(self) -> Path:
        """Where the page is."""
    def now(self) -> Reading:
        """The time now, with its bound, sigma and status."""
    def now_ns(self) -> int:
        """The corrected time now, Unix ns; an error where the clock is not usable."""
    def now_within(self, max_error_ns: int) -> Reading:
        """The time now, if it is known to within this many nanoseconds on each side."""
    def at(self, from_now_ns: int) -> Reading:
        """The reading for the moment this far away, ns, past (negative) or future."""
    def at_system_time(self, system_ns: int) -> Reading:
        """The reading for the moment at which the system clock showed this, Unix ns."""
    def get_time(self) -> CorrectedTime:
        """The time now in float seconds, as the old client gives it; an error where the clock is not usable."""
    def get_time_at(self, from_now_ns: int) -> CorrectedTime:
        """The same for the moment this far ahead, ns."""
    def page_bytes(self) -> bytes:
        """The 128 bytes of the page, whole and untorn."""
    def status(self) -> str:
        """How far the clock can be trusted now."""
    def is_ready(self) -> bool:
        """True when the daemon has set both VALID and WARMUP_COMPLETE: how old clients judge it."""
    def wait_synchronized(self, timeout_ns: int) -> Reading:
        """Blocks until the clock is synchronized or in holdover; returns the first such reading."""
    def wait_until_ns(self, target_ns: int, tolerance_ns: int) -> int:
        """Blocks until corrected time reaches the target; returns how late it woke, ns, never negative."""

def evaluate(
    page: bytes,
    *,
    realtime_ns: int,
    boottime_ns: int | None = None,
    monotonic_raw_ns: int | None = None,
    counter: int | None = None,
) -> Reading:
    """The reading that a client would make of these 128 bytes at these clock readings."""

def verify_envelope(jwks: str, kind: str, envelope: str) -> str: ...
def verify_webhook(jwks: str, id: str, timestamp: str, signature: str, body: bytes) -> None: ...
