"""The client of the clock page, as Python programs use it."""

from __future__ import annotations

import math
from types import TracebackType
from typing import NamedTuple

from chronotick._native import ClockPage, Reading
from chronotick.errors import DaemonNotRunningError, InvalidArgumentError

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000


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
    """Reads the clock page. It attaches when first used; all threads may share one client."""

    __slots__ = ("_name", "_page")

    def __init__(self, name: str | None = None) -> None:
        """`name` is that of the page, or its absolute path; None is $CHRONOTICK_SHM, else the default name."""
        self._name = name
        self._page: ClockPage | None = None

    def now(self) -> Reading:
        """The time now, with its bound and status."""
        return (self._page or self._attach()).now()

    def now_ns(self) -> int:
        """The corrected time now, Unix ns. Quicker than `now`, and without the status that says what it is worth."""
        return (self._page or self._attach()).now_ns()

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

    def get_time(self) -> CorrectedTime:
        """The time now in float seconds, without a hard bound: `now` tells more."""
        reading, offset_correction = (self._page or self._attach()).now_with_offset()
        return CorrectedTime(
            corrected_timestamp=_seconds(reading.corrected_ns),
            system_timestamp=_seconds(reading.system_ns),
            uncertainty_seconds=reading.sigma_ns / _NS_PER_S,
            confidence=reading.confidence,
            source=reading.source,
            offset_correction=offset_correction,
            drift_rate=reading.drift_rate,
        )

    def is_daemon_ready(self) -> bool:
        """True when a daemon has published a valid time and has warmed up; False when there is no daemon."""
        try:
            return (self._page or self._attach()).is_ready()
        except DaemonNotRunningError:
            return False

    def close(self) -> None:
        """Lets go of the page. A closed client attaches again when it is next used."""
        self._page = None

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
        self._page = page = ClockPage(self._name)
        return page


def get_current_time() -> CorrectedTime:
    """The time now, from a client made for this one call: keep a ChronoTickClient to read more often."""
    with ChronoTickClient() as client:
        return client.get_time()


def _seconds(ns: int) -> float:
    # One rounding: both terms are exact.
    return ns // _NS_PER_S + ns % _NS_PER_S / _NS_PER_S


def _ns(name: str, value: float, unit_ns: int) -> int:
    if not math.isfinite(value):
        raise InvalidArgumentError(f"{name} is {value}: give a finite number")
    whole = math.floor(value)
    # The whole part in integers: a float of nanoseconds since the epoch has a step of 256.
    return whole * unit_ns + round((value - whole) * unit_ns)
