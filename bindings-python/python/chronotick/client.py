"""The client of the clock page, as Python programs use it."""

from __future__ import annotations

import math
import operator
import os
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from chronotick._native import ClockPage, Reading
from chronotick.errors import (
    ChronoTickError,
    ClientClosedError,
    InvalidArgumentError,
    TargetPastError,
)
from chronotick.shm.config import read_data

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_NATIVE = ("now", "now_ns", "get_time")
_LONGEST_FUTURE_S = 3600
# An event loop's timers are good to a millisecond or two; a kernel timer of ours wakes it for the rest of a wait.
_ASYNC_LEAD_NS = 2 * _NS_PER_MS
# How long before the target the event loop is woken, to spin until then: more than the waking usually takes.
_ASYNC_SPIN_NS = 250_000
# The page may change while the event loop sleeps.
_ASYNC_LOOK_AGAIN_NS = 250 * _NS_PER_MS
_USABLE = ("synchronized", "warming_up", "holdover", "legacy")


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
    `now_ns()` gives the corrected time alone, Unix ns, and is the quickest.
    `get_time()` gives a `CorrectedTime` in float seconds, as the old client did.
    Neither number nor tuple carries a status: where the clock is disrupted, expired or without data, these two raise a
    ChronoTickError with the code "untrusted".

    After a fork the child's client attaches anew when next used. After `close()` every use is a ClientClosedError.
    """

    # A native method in a slot is called without a Python function around it, which would cost more than the reading.
    # The slots are filled when the page is attached; until then __getattr__ gives a function that attaches it.
    __slots__ = ("__weakref__", "_closed", "_name", "_page", "get_time", "now", "now_ns")

    now: Callable[[], Reading]
    now_ns: Callable[[], int]
    get_time: Callable[[], CorrectedTime]

    def __init__(self, name: str | None = None) -> None:
        """`name` is that of the page, or its absolute path; None is $CHRONOTICK_SHM, else the default name."""
        self._name = name
        self._page: ClockPage | None = None
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        if name in _NATIVE:
            return lambda: getattr(self._page or self._attach(), name)()
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

    async def wait_until_ns_async(self, target_ns: int, tolerance_ns: int = _NS_PER_MS) -> int:
        """As `wait_until_ns`, for asyncio: it takes no thread, and cancelling the task ends the wait.

        Other tasks run until 0.25 ms before the target: from there on the event loop is held up by a spin, so that the
        wait ends as sharply as a blocking one; with a tolerance above a millisecond it is not held up at all. The waits
        of a loop that end in the next 2 ms share a file descriptor; if there is none to be had, they block it so long.
        """
        # Whoever awaits has imported it; for all others it would be most of the time that our import takes.
        import asyncio

        from chronotick._alarms import alarms

        if tolerance_ns < 0:
            raise InvalidArgumentError(f"tolerance_ns is {tolerance_ns}: give 0 or more")
        page, first, target_ns = self._page or self._attach(), True, operator.index(target_ns)
        if target_ns >> 63 not in (0, -1):
            raise InvalidArgumentError("target_ns does not fit in 64 bits: give nanoseconds")
        spin_ns = _ASYNC_SPIN_NS if tolerance_ns <= _NS_PER_MS else 0
        while True:
            reading = page.now()
            left_ns = target_ns - reading.corrected_ns
            if reading.status not in _USABLE:
                # Says why not.
                page.now_ns()
            elif left_ns <= 0:
                # A target that had passed is refused natively.
                return page.wait_until_ns(target_ns, tolerance_ns) if first else -left_ns
            elif left_ns <= spin_ns:
                return self._finish(page, target_ns, tolerance_ns)
            elif left_ns <= _ASYNC_LEAD_NS:
                try:
                    await alarms().after(left_ns - spin_ns)
                except OSError:
                    return self._finish(page, target_ns, tolerance_ns)
            else:
                await asyncio.sleep(min(left_ns - _ASYNC_LEAD_NS, _ASYNC_LOOK_AGAIN_NS) / _NS_PER_S)
            first = False
            # Closed, or forked, while it slept.
            page = self._page or self._attach()

    @staticmethod
    def _finish(page: ClockPage, target_ns: int, tolerance_ns: int) -> int:
        try:
            return page.wait_until_ns(target_ns, tolerance_ns)
        except TargetPastError:
            # It was ahead when the wait began.
            return max(0, page.now_ns() - target_ns)

    async def wait_until_async(self, target_corrected_time: float, tolerance_ms: float = 1.0) -> None:
        """As `wait_until`, for asyncio; see `wait_until_ns_async`."""
        target_ns = _ns("target_corrected_time", target_corrected_time, _NS_PER_S)
        await self.wait_until_ns_async(target_ns, _ns("tolerance_ms", tolerance_ms, _NS_PER_MS))

    def get_future_time(self, future_seconds: float) -> CorrectedTime:
        """The time this many seconds ahead, 0 to 3600, with the uncertainty that the correction will have grown to."""
        if not isinstance(future_seconds, int | float) or math.isnan(future_seconds):
            raise InvalidArgumentError("future_seconds must be a number")
        if not 0 <= future_seconds <= _LONGEST_FUTURE_S:
            raise InvalidArgumentError("future_seconds must be between 0 and 3600 (1 hour)")
        return (self._page or self._attach()).get_time_at(round(future_seconds * _NS_PER_S))

    def get_daemon_info(self) -> dict[str, Any]:
        """What the page tells of the daemon, under the names of the old client."""
        page = self._page or self._attach()
        data = read_data(page.page_bytes())
        ready = data.is_valid and data.is_warmup_complete
        # The last measurement is in corrected time.
        since_s = page.now().corrected_ns / _NS_PER_S - data.last_ntp_sync
        return {
            "status": "ready" if ready else "warming_up",
            "warmup_complete": data.is_warmup_complete,
            "measurement_count": data.measurement_count,
            "total_corrections": data.total_corrections,
            "daemon_uptime": data.daemon_uptime,
            "last_ntp_sync": data.last_ntp_sync,
            "seconds_since_ntp": since_s if data.last_ntp_sync > 0 else None,
            "ntp_ready": data.is_ntp_ready,
            "models_ready": data.is_models_ready,
            "data_source": data.source.name.lower(),
            "confidence": data.confidence,
            "average_latency_ms": data.average_latency_ms,
        }

    def wait_synchronized(self, timeout_s: float) -> Reading:
        """Blocks until the clock is synchronized or in holdover; returns the first such reading.

        When there is none in time, that is a ChronoTickError with the code "untrusted". Ctrl-C ends the wait.
        """
        timeout_ns = _ns("timeout_s", timeout_s, _NS_PER_S)
        if timeout_ns < 0:
            raise InvalidArgumentError(f"timeout_s is {timeout_s}: give 0 or more")
        return (self._page or self._attach()).wait_synchronized(timeout_ns)

    def is_daemon_ready(self) -> bool:
        """True when a daemon has published a valid time and has warmed up; False when there is no daemon, or a page that
        cannot be read."""
        try:
            return (self._page or self._attach()).is_ready()
        except ClientClosedError:
            raise
        except ChronoTickError:
            return False

    def close(self) -> None:
        """Lets go of the page. Every later use of this client is a ClientClosedError."""
        self._closed = True
        self._detach()

    def __enter__(self) -> ChronoTickClient:
        if self._closed:
            raise _closed_error()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self._page.path if self._page is not None else "closed" if self._closed else "not attached"
        return f"<ChronoTickClient {where}>"

    def _attach(self) -> ClockPage:
        if self._closed:
            raise _closed_error()
        # Two threads may both attach at first; either page serves.
        page = ClockPage(self._name)
        for name in _NATIVE:
            setattr(self, name, getattr(page, name))
        self._page = page
        _attached.add(self)
        return page

    def _detach(self) -> None:
        self._page = None
        for name in _NATIVE:
            try:
                delattr(self, name)
            except AttributeError:
                # It was not attached, or another thread detaches it as well.
                pass


_attached: weakref.WeakSet[ChronoTickClient] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The mapping itself survives a fork, but a lock in it may have been held by a thread that the child does not have.
    for client in list(_attached):
        client._detach()
    _attached.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _closed_error() -> ClientClosedError:
    return ClientClosedError("this ChronoTickClient is closed: make another one")


def get_current_time() -> CorrectedTime:
    """The time now, from a client made for this one call: keep a ChronoTickClient to read more often."""
    with ChronoTickClient() as client:
        return client.get_time()


def _ns(name: str, value: float, unit_ns: int) -> int:
    if not isinstance(value, int) and not math.isfinite(value):
        raise InvalidArgumentError(f"{name} is {value}: give a finite number")
    whole = math.floor(value)
    # The whole part in integers: a float of nanoseconds since the epoch has a step of 256.
    return whole * unit_ns + round((value - whole) * unit_ns)
