"""The client of the clock page, as Python programs use it."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from chronotick._native import ClockPage, Reading
from chronotick.errors import DaemonNotRunningError, InvalidArgumentError

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_NATIVE = ("now", "now_ns", "get_time")


class CorrectedTime(NamedTuple):
    """A reading in float seconds. A float of Unix seconds has a step of 238 ns: `Reading` is exact."""

    corrected_timestamp: float
    system_timestamp: float
    uncertainty_seconds: float
    confidence: float
    source: str
    offset_correction: float
    drift_rate: float


class ChronoTickClient:
    """Reads the clock page. It attaches when first used; all threads may share one client.

    `now()` gives a `Reading`: the time with its bound and status.
    `now_ns()` gives the corrected time alone, Unix ns, and is the quickest; without a status to go with the number,
    a clock that is not usable is a ChronoTickError with the code "untrusted".
    `get_time()` gives a `CorrectedTime` in float seconds, as the old client did.
    """

    # A native method in a slot is called without a Python function around it, which would cost more than the reading.
    # The slots are filled when the page is attached; until then __getattr__ gives a function that attaches it.
    __slots__ = ("_name", "_page", "get_time", "now", "now_ns")

    now: Callable[[], Reading]
    now_ns: Callable[[], int]
    get_time: Callable[[], CorrectedTime]

    def __init__(self, name: str | None = None) -> None:
        """`name` is that of the page, or its absolute path; None is $CHRONOTICK_SHM, else the default name."""
        self._name = name
        self._page: ClockPage | None = None

    def __getattr__(self, name: str) -> Any:
        if name in _NATIVE:
            return lambda: getattr(self._attach(), name)()
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def now_within(self, max_error_ns: int) -> Reading:
        """The time now if its bound is at most this wide on each side, else a ChronoTickError with code "untrusted"."""
        if max_error_ns < 0:
            raise InvalidArgumentError(f"max_error_ns is {max_error_ns}: give 0 or more")
        return (self._page or self._attach()).now_within(max_error_ns)

    def at(self, from_now_ns: int) -> Reading:
        """The reading for a past (negative) or future moment: its bound grows with the distance."""
        return (self._page or self._attach()).at(from_now_ns)

    def at_system_time(self, system_ns: int) -> Reading:
        """The reading for the moment at which the system clock showed `system_ns`, if it was not stepped since."""
        return (self._page or self._attach()).at_system_time(system_ns)

    def status(self) -> str:
        """How far the clock can be trusted now, in the words of `Reading.status`."""
        return (self._page or self._attach()).status()

    def wait_until_ns(self, target_ns: int, tolerance_ns: int = _NS_PER_MS) -> int:
        """Blocks until corrected time reaches `target_ns`; returns how late it woke, ns, never negative.

        With a tolerance below a millisecond the last 200 µs are spun instead of slept. Other threads run meanwhile, and
        Ctrl-C ends the wait. A target that has passed is a TargetPastError; a clock that is not to be trusted,
        before the wait or during it, is a ChronoTickError.
        """
        if tolerance_ns < 0:
            raise InvalidArgumentError(f"tolerance_ns is {tolerance_ns}: give 0 or more")
        return (self._page or self._attach()).wait_until_ns(target_ns, tolerance_ns)

    def wait_until(self, target_corrected_time: float, tolerance_ms: float = 1.0) -> None:
        """Blocks until corrected time reaches this many Unix seconds; else as `wait_until_ns`."""
        target_ns = _ns("target_corrected_time", target_corrected_time, _NS_PER_S)
        self.wait_until_ns(target_ns, _ns("tolerance_ms", tolerance_ms, _NS_PER_MS))

    def wait_synchronized(self, timeout_s: float) -> Reading:
        """Blocks until the clock is synchronized or in holdover; returns the first such reading.

        When there is none in time, that is a ChronoTickError with the code "untrusted". Ctrl-C ends the wait.
        """
        timeout_ns = _ns("timeout_s", timeout_s, _NS_PER_S)
        if timeout_ns < 0:
            raise InvalidArgumentError(f"timeout_s is {timeout_s}: give 0 or more")
        return (self._page or self._attach()).wait_synchronized(timeout_ns)

    def is_daemon_ready(self) -> bool:
        """True when a daemon has published a valid time and has warmed up; False when there is no daemon."""
        try:
            return (self._page or self._attach()).is_ready()
        except DaemonNotRunningError:
            return False

    def close(self) -> None:
        """Lets go of the page. A closed client attaches again when it is next used."""
        if self._page is not None:
            self._page = None
            for name in _NATIVE:
                delattr(self, name)

    def __enter__(self) -> ChronoTickClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self._page.path if self._page is not None else "not attached"
        return f"<ChronoTickClient {where}>"

    def _attach(self) -> ClockPage:
        # Two threads may both attach at first; either page serves.
        page = ClockPage(self._name)
        for name in _NATIVE:
            setattr(self, name, getattr(page, name))
        self._page = page
        return page


def get_current_time() -> CorrectedTime:
    """The time now, from a client made for this one call: keep a ChronoTickClient to read more often."""
    with ChronoTickClient() as client:
        return client.get_time()


def _ns(name: str, value: float, unit_ns: int) -> int:
    if not math.isfinite(value):
        raise InvalidArgumentError(f"{name} is {value}: give a finite number")
    whole = math.floor(value)
    # The whole part in integers: a float of nanoseconds since the epoch has a step of 256.
    return whole * unit_ns + round((value - whole) * unit_ns)
