"""Sharp wake-ups in asyncio: the waits of one event loop that end soon share one kernel timer."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
import weakref

from chronotick._native import Alarm


class Alarms:
    """The waits of one event loop that end soon, with a file descriptor for as long as there is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm: Alarm | None = None
        self._loop = loop
        self._order = itertools.count()
        # Moments of CLOCK_BOOTTIME, ns, and who waits for them.
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._waiting = 0

    async def after(self, ns: int) -> None:
        """Sleeps for this long. An OSError, at once, where no file descriptor is left."""
        if self._alarm is None:
            alarm = Alarm()
            self._loop.add_reader(alarm.fileno(), self._ring)
            self._alarm = alarm
            # Else a traceback with this frame in it would keep it open.
            del alarm
        future = self._loop.create_future()
        entry = (_boottime_ns() + ns, next(self._order), future)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._alarm.set(entry[0])
        self._waiting += 1
        try:
            await future
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._stop()

    def _stop(self) -> None:
        if self._alarm is not None:
            self._loop.remove_reader(self._alarm.fileno())
            self._alarm = None
        # Those of cancelled waits.
        self._heap.clear()

    def _ring(self) -> None:
        now_ns = _boottime_ns()
        while self._heap and self._heap[0][0] <= now_ns:
            _, _, future = heapq.heappop(self._heap)
            if not future.done():
                future.set_result(None)
        if self._heap and self._alarm is not None:
            self._alarm.set(self._heap[0][0])


# By the identity of the loop, which a value keeps alive; a value itself is kept by the waits alone.
_of_loops: weakref.WeakValueDictionary[int, Alarms] = weakref.WeakValueDictionary()


def alarms() -> Alarms:
    """Those of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _of_loops.get(id(loop))
    if found is None:
        found = _of_loops[id(loop)] = Alarms(loop)
    return found


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
