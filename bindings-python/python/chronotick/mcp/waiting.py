"""Waiting for a moment in steps, so that a wait can be cancelled and tells how far it is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from chronotick.client import ChronoTickClient
from chronotick.errors import InvalidArgumentError, TargetPastError

NS_PER_S = 1_000_000_000

# The last stretch is one blocking call into the native client, which a cancellation does not end.
_FINAL_NS = 20_000_000
# The corrected clock is asked again at least this often: it may be corrected meanwhile, and the machine may sleep.
_STEP_MAX_S = 1.0
_STEP_MIN_S = 0.05
_STEPS = 10
_WAIT_MAX_S = 86_400

Progress = Callable[[float, float], object]
"""Called with the seconds waited and the seconds to wait in all."""


class Wait:
    """One wait. Sleep as `step_s` says until it is 0, then call `finish`, which blocks for at most 20 ms."""

    def __init__(self, client: ChronoTickClient, target_ns: int, tolerance_ns: int) -> None:
        self._client = client
        self._target_ns = target_ns
        self._tolerance_ns = tolerance_ns
        begin = client.now()
        self._begin_ns = begin.corrected_ns
        left_ns = target_ns - begin.corrected_ns
        if left_ns < 0:
            raise TargetPastError(f"the target passed {-left_ns / NS_PER_S:.6f} s ago: give one ahead", "already_past")
        if left_ns > _WAIT_MAX_S * NS_PER_S:
            raise InvalidArgumentError(
                f"the target is {left_ns / NS_PER_S:.0f} s away, and a wait lasts at most {_WAIT_MAX_S} s: "
                "use schedule_action and wait nearer to it"
            )
        self.total_s = left_ns / NS_PER_S
        self._every_s = min(_STEP_MAX_S, max(_STEP_MIN_S, self.total_s / _STEPS))

    def step_s(self) -> float:
        """How long to sleep now; 0 when the last stretch has come. A clock that cannot be used is a ChronoTickError."""
        left_ns = self._target_ns - self._client.now_ns()
        return max(0.0, min(self._every_s, (left_ns - _FINAL_NS) / NS_PER_S))

    def waited_s(self) -> float:
        """How much corrected time has passed since the wait began."""
        return (self._client.now_ns() - self._begin_ns) / NS_PER_S

    def finish(self) -> int:
        """Blocks until the target; returns how late it woke, ns."""
        try:
            return self._client.wait_until_ns(self._target_ns, self._tolerance_ns)
        except TargetPastError:
            # It passed between the last sleep and here.
            return max(0, self._client.now_ns() - self._target_ns)


def wait_in_steps(wait: Wait, progress: Progress | None, stop: Callable[[float], bool] | None) -> int | None:
    """Runs a wait in this thread. `stop(seconds)` waits that long and is True when the wait is to end, like
    `threading.Event.wait`. Returns how late it woke, ns, or None when it was stopped."""
    while (sleep_s := wait.step_s()) > 0:
        if progress is not None:
            progress(wait.waited_s(), wait.total_s)
        if stop is None:
            time.sleep(sleep_s)
        elif stop(sleep_s):
            return None
    return wait.finish()


async def wait_in_steps_async(wait: Wait, progress: Callable[[float, float], Awaitable[object]] | None) -> int:
    """Runs a wait in the event loop; a thread is taken for the last stretch only. Returns how late it woke, ns."""
    import anyio
    import anyio.to_thread

    while (sleep_s := wait.step_s()) > 0:
        if progress is not None:
            await progress(wait.waited_s(), wait.total_s)
        await anyio.sleep(sleep_s)
    return await anyio.to_thread.run_sync(wait.finish, abandon_on_cancel=True)
