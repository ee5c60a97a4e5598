"""The seven tools of the clock as plain functions, without any dependency on MCP.

Each returns a dict that JSON can carry. What goes wrong is a result too: `{"error": ..., "code": ...,
"daemon_running": ...}`. Their JSON schemas are in `chronotick.mcp.catalog`.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

from chronotick.client import ChronoTickClient
from chronotick.errors import ChronoTickError, DaemonNotRunningError, InvalidArgumentError, TargetPastError
from chronotick.mcp import peers, timers
from chronotick.mcp.waiting import NS_PER_S, Progress, Wait, wait_in_steps
from chronotick.shm.config import ChronoTickData, read_data

__all__ = [
    "get_daemon_status",
    "get_time",
    "get_time_bounds",
    "get_time_with_future_uncertainty",
    "schedule_action",
    "synchronize_with_peers",
    "wait_until_time",
]

Result = dict[str, Any]

FUTURE_MAX_S = 3600.0
DURATION_MAX_S = 10 * 365 * 86_400.0
PEERS_MAX = 100
ACTION_ID_MAX = 256
_TIME_MAX_S = 9.2e9
_TOLERANCE_MAX_MS = 60_000.0
# RFC 5905's PHI: how much a clock that nobody corrects may gain or lose.
_PHI = 15e-6
# A start is proposed at least this far ahead, so that the proposal can reach everybody.
_LEAD_MIN_S = 1.0
_SELF = "self"

_TRUSTED = ("synchronized", "holdover")
_UNUSABLE = ("disrupted", "expired", "no_data")

_P = ParamSpec("_P")


def _timed(tool: Callable[_P, Result]) -> Callable[_P, Result]:
    """Makes results of the exceptions and adds the time that the call took."""

    @functools.wraps(tool)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> Result:
        begin_ns = time.perf_counter_ns()
        try:
            result = tool(*args, **kwargs)
        except (ChronoTickError, InvalidArgumentError, OSError) as e:
            return error_result(e, kwargs.get("client"))
        result["call_latency_ms"] = (time.perf_counter_ns() - begin_ns) / 1e6
        return result

    return call


def error_result(error: Exception, client: object = None) -> Result:
    """What went wrong, as the result of a tool."""
    clock = client if isinstance(client, ChronoTickClient) else default_client()
    code = getattr(error, "code", "internal")
    return {"error": str(error), "code": code, "daemon_running": _daemon_state(clock) != "not_running"}


@functools.lru_cache(maxsize=1)
def default_client() -> ChronoTickClient:
    """The client of tools that are given none: all threads share it, and it attaches when first used."""
    return ChronoTickClient()


def read_page(client: ChronoTickClient) -> ChronoTickData:
    """The fields of the page that a `Reading` does not carry: counters, flags, validity."""
    return read_data((client._page or client._attach()).page_bytes())


@_timed
def get_time(*, client: ChronoTickClient | None = None) -> Result:
    """The corrected time now, with its uncertainty and what it was made of."""
    clock = client or default_client()
    reading = clock.now()
    data = read_page(clock)
    return {
        "corrected_time": reading.corrected_ns / NS_PER_S,
        "system_time": reading.system_ns / NS_PER_S,
        "offset_correction": (reading.corrected_ns - reading.system_ns) / NS_PER_S,
        "drift_rate": reading.drift_rate,
        "offset_uncertainty": data.offset_uncertainty,
        "drift_uncertainty": data.drift_uncertainty,
        "time_uncertainty": reading.sigma_ns / NS_PER_S,
        "confidence": reading.confidence,
        "source": reading.source,
        "prediction_time": data.prediction_time,
        "valid_until": data.valid_until,
        "is_valid": data.is_valid and reading.status not in _UNUSABLE,
        "is_ntp_ready": data.is_ntp_ready,
        "is_models_ready": data.is_models_ready,
    }


def get_daemon_status(*, client: ChronoTickClient | None = None) -> Result:
    """How the daemon is doing; a daemon that does not run, or has stopped publishing, has the status not_running."""
    result = _daemon_status(client=client)
    return {"status": "not_running", **result} if "error" in result else result


@_timed
def _daemon_status(*, client: ChronoTickClient | None = None) -> Result:
    clock = client or default_client()
    reading = clock.now()
    status = _daemon_state(clock)
    if status == "not_running":
        raise DaemonNotRunningError(
            f"ChronoTick daemon not running. Its last page is {reading.age_ns / NS_PER_S:.0f} s old: "
            "start it with chronotick-daemon",
            "not_running",
        )
    return {**clock.get_daemon_info(), "status": status}


def _daemon_state(clock: ChronoTickClient) -> str:
    """`ready`, `warming_up` or `not_running`."""
    try:
        reading = clock.now()
        data = read_page(clock)
    except DaemonNotRunningError:
        return "not_running"
    except (ChronoTickError, InvalidArgumentError, OSError):
        # There is a page that cannot be read: whether somebody serves it is not known.
        return "not_running"
    valid_for_ns = (data.valid_until - data.prediction_time) * NS_PER_S
    # A page that was disrupted when its daemon died keeps that status for ever; so its age counts too.
    if reading.status == "expired" or (reading.status == "disrupted" and reading.age_ns > valid_for_ns):
        return "not_running"
    ready = data.is_valid and data.is_warmup_complete and reading.status not in _UNUSABLE
    return "ready" if ready else "warming_up"


@_timed
def get_time_with_future_uncertainty(future_seconds: float, *, client: ChronoTickClient | None = None) -> Result:
    """The time now and the moment `future_seconds` ahead, with the uncertainty (one sigma) of each."""
    clock = client or default_client()
    ahead_s = _number("future_seconds", future_seconds, 0.0, FUTURE_MAX_S)
    ahead_ns = _nanoseconds(ahead_s)
    now, then = clock.now(), clock.at(ahead_ns)
    # The second reading was made a little later than the first.
    later_ns = then.system_ns - now.system_ns - ahead_ns
    return {
        "current_corrected_time": now.corrected_ns / NS_PER_S,
        "current_system_time": now.system_ns / NS_PER_S,
        "current_uncertainty": now.sigma_ns / NS_PER_S,
        "future_seconds": ahead_s,
        "future_corrected_time": (then.corrected_ns - later_ns) / NS_PER_S,
        "future_system_time": (then.system_ns - later_ns) / NS_PER_S,
        "future_uncertainty": then.sigma_ns / NS_PER_S,
        "uncertainty_increase": (then.sigma_ns - now.sigma_ns) / NS_PER_S,
        "confidence": now.confidence,
    }


@_timed
def get_time_bounds(duration_seconds: float, *, client: ChronoTickClient | None = None) -> Result:
    """The hard interval [earliest_time, latest_time] of the true time at the moment `duration_seconds` ahead."""
    clock = client or default_client()
    ahead_s = _number("duration_seconds", duration_seconds, 0.0, DURATION_MAX_S)
    status = _usable_status(clock)
    then = clock.at(_nanoseconds(ahead_s))
    if then.earliest_ns is None or then.latest_ns is None or then.max_error_ns is None:
        raise ChronoTickError(f"the clock page has no hard bound (status {status}): use time_uncertainty", "untrusted")
    return {
        "duration_seconds": ahead_s,
        "earliest_time": then.earliest_ns / NS_PER_S,
        "latest_time": then.latest_ns / NS_PER_S,
        "expected_time": then.corrected_ns / NS_PER_S,
        "max_error": then.max_error_ns / NS_PER_S,
        "time_uncertainty": then.sigma_ns / NS_PER_S,
        "clock_status": status,
        "guaranteed": status in _TRUSTED,
        "confidence": then.confidence,
    }


@_timed
def schedule_action(
    target_corrected_time: float, action_id: str, *, client: ChronoTickClient | None = None
) -> Result:
    """When to act on the system clock so that it is `target_corrected_time`, with the window of that moment.

    With `MINOOTS_URL` in the environment the timer service there is asked for a durable timer as well.
    """
    clock = client or default_client()
    target_ns = _nanoseconds(_number("target_corrected_time", target_corrected_time, 0.0, _TIME_MAX_S))
    if not isinstance(action_id, str) or not 0 < len(action_id) <= ACTION_ID_MAX:
        raise InvalidArgumentError(f"action_id must be a text of 1 to {ACTION_ID_MAX} characters")
    status = _usable_status(clock)
    now = clock.now()
    delay_ns = target_ns - now.corrected_ns
    if delay_ns < 0:
        raise TargetPastError(f"the target passed {-delay_ns / NS_PER_S:.6f} s ago: give one ahead", "already_past")
    # Elapsed time and corrected time run at slightly different rates: a second step leaves less than a nanosecond.
    ahead_ns = delay_ns
    for _ in range(2):
        then = clock.at(ahead_ns)
        ahead_ns += target_ns - then.corrected_ns
    then = clock.at(ahead_ns)
    at_ns = then.system_ns + (target_ns - then.corrected_ns)
    hard = then.max_error_ns is not None and status in _TRUSTED
    window_ns = then.max_error_ns if hard and then.max_error_ns is not None else 3 * then.sigma_ns
    url = timers.service_url()
    return {
        "action_id": action_id,
        "target_corrected_time": target_ns / NS_PER_S,
        "execute_at_system_time": at_ns / NS_PER_S,
        "earliest_system_time": (at_ns - window_ns) / NS_PER_S,
        "latest_system_time": (at_ns + window_ns) / NS_PER_S,
        "window_kind": "hard_bound" if hard else "three_sigma",
        "delay_seconds": delay_ns / NS_PER_S,
        "time_uncertainty": then.sigma_ns / NS_PER_S,
        "offset_at_target": (target_ns - at_ns) / NS_PER_S,
        "drift_rate": now.drift_rate,
        "current_corrected_time": now.corrected_ns / NS_PER_S,
        "current_system_time": now.system_ns / NS_PER_S,
        "clock_status": status,
        "timer": None if url is None else timers.create_timer(url, action_id, target_ns),
    }


@_timed
def synchronize_with_peers(
    peer_times: Sequence[Mapping[str, Any]], *, client: ChronoTickClient | None = None
) -> Result:
    """What this clock and its peers agree on, when all can start something together, and who knew of whom.

    A peer is `{"peer_id", "corrected_time", "uncertainty", "received_at", "round_trip_seconds", "vector_clock"}`. Its
    `uncertainty` is the half width of what it holds possible. `received_at` is our corrected time when its answer came
    (left out: now), `round_trip_seconds` how long the question took. One with a `vector_clock` alone is only ordered.
    """
    clock = client or default_client()
    status = _usable_status(clock)
    now = clock.now()
    if not isinstance(peer_times, Sequence) or isinstance(peer_times, str) or not 0 < len(peer_times) <= PEERS_MAX:
        raise InvalidArgumentError(f"peer_times must be a list of 1 to {PEERS_MAX} peers")
    own_error_ns = now.max_error_ns if now.max_error_ns is not None else 3 * now.sigma_ns
    clocks = [peers.Interval(_SELF, now.corrected_ns - own_error_ns, now.corrected_ns + own_error_ns)]
    errors_ns = {_SELF: own_error_ns}
    vectors: dict[str, Mapping[str, int]] = {}
    round_trip_s = 0.0
    for index, entry in enumerate(peer_times):
        peer = _Peer(index, entry)
        if peer.name in errors_ns or peer.name in vectors:
            raise InvalidArgumentError(f"peer_times has {peer.name!r} twice: give each peer its own peer_id")
        if peer.vector_clock is not None:
            vectors[peer.name] = peer.vector_clock
        interval = peer.interval(now.corrected_ns)
        if interval is not None:
            clocks.append(interval)
            errors_ns[peer.name] = peer.error_ns
            round_trip_s = max(round_trip_s, peer.round_trip_ns / NS_PER_S)
    agreed = peers.common_interval(clocks)
    majority = agreed.agreeing * 2 > len(clocks) and len(clocks) > 1
    # Who is inside may still be off by its own error, and reads its own clock to start.
    inside_ns = sorted((errors_ns[name] for name in agreed.inside), reverse=True)
    lead_ns = _nanoseconds(max(_LEAD_MIN_S, 2 * round_trip_s))
    return {
        "peer_count": len(clocks) - 1,
        "common_interval": {
            "earliest": agreed.earliest_ns / NS_PER_S,
            "latest": agreed.latest_ns / NS_PER_S,
        },
        "agreeing_count": agreed.agreeing,
        "majority": majority,
        "agreeing": list(agreed.inside),
        "outside": [_outsider(agreed, clock_) for clock_ in agreed.outside],
        "best_estimate": (agreed.earliest_ns + agreed.latest_ns) / 2 / NS_PER_S,
        "uncertainty": (agreed.latest_ns - agreed.earliest_ns) / 2 / NS_PER_S,
        "own_corrected_time": now.corrected_ns / NS_PER_S,
        "safe_start_time": (agreed.latest_ns + inside_ns[0] + lead_ns) / NS_PER_S if majority else None,
        "start_spread_seconds": sum(inside_ns[:2]) / NS_PER_S if majority else None,
        "lead_seconds": lead_ns / NS_PER_S,
        "causal_order": peers.causal_order(vectors),
        "merged_vector_clock": peers.merged(vectors),
        "strategy": _strategy(agreed, majority, len(clocks)),
        "clock_status": status,
    }


def wait_until_time(
    target_corrected_time: float,
    tolerance_ms: float = 1.0,
    *,
    client: ChronoTickClient | None = None,
    on_progress: Progress | None = None,
    stop: Callable[[float], bool] | None = None,
) -> Result:
    """Blocks until corrected time reaches `target_corrected_time`; tells how late it woke.

    `on_progress(waited_s, total_s)` is called at times. `stop(seconds)` takes the place of sleeping and ends the wait
    when it is true: `threading.Event().wait` is one. Any thread may then set the event.
    """
    try:
        wait = begin_wait(target_corrected_time, tolerance_ms, client=client)
        late_ns = wait_in_steps(wait, on_progress, stop)
        if late_ns is None:
            return wait_cancelled()
        return wait_result(wait, late_ns, target_corrected_time, tolerance_ms, client=client)
    except (ChronoTickError, InvalidArgumentError, OSError) as e:
        return error_result(e, client)


def begin_wait(
    target_corrected_time: float, tolerance_ms: float = 1.0, *, client: ChronoTickClient | None = None
) -> Wait:
    """The wait of `wait_until_time`, for who runs the steps himself; raises what is wrong with it."""
    clock = client or default_client()
    target_ns = _nanoseconds(_number("target_corrected_time", target_corrected_time, 0.0, _TIME_MAX_S))
    tolerance_ns = _nanoseconds(_number("tolerance_ms", tolerance_ms, 0.0, _TOLERANCE_MAX_MS) / 1e3)
    _usable_status(clock)
    return Wait(clock, target_ns, tolerance_ns)


def wait_result(
    wait: Wait,
    late_ns: int,
    target_corrected_time: float,
    tolerance_ms: float,
    *,
    client: ChronoTickClient | None = None,
) -> Result:
    """The result of a wait that reached its target."""
    reading = (client or default_client()).now()
    late_s = late_ns / NS_PER_S
    return {
        "target_corrected_time": float(target_corrected_time),
        "actual_wake_time": float(target_corrected_time) + late_s,
        "accuracy_achieved": late_s,
        "accuracy_achieved_ms": late_s * 1e3,
        "tolerance_ms": float(tolerance_ms),
        "within_tolerance": late_s * 1e3 <= tolerance_ms,
        "waited_seconds": wait.total_s + late_s,
        "time_uncertainty": reading.sigma_ns / NS_PER_S,
        "max_error": None if reading.max_error_ns is None else reading.max_error_ns / NS_PER_S,
        "clock_status": reading.status,
    }


def wait_cancelled() -> Result:
    """The result of a wait that was stopped."""
    return {"error": "the wait was cancelled before its target", "code": "cancelled", "daemon_running": True}


class _Peer:
    """One entry of `peer_times`, checked."""

    def __init__(self, index: int, entry: object) -> None:
        if not isinstance(entry, Mapping):
            raise InvalidArgumentError(
                f"peer_times[{index}] is not an object: give peer_id, corrected_time, uncertainty"
            )
        unknown = sorted(map(str, entry.keys() - _PEER_KEYS))
        if unknown:
            raise InvalidArgumentError(
                f"peer_times[{index}] has {', '.join(unknown)[:200]}: known are {', '.join(_PEER_KEYS)}"
            )
        name = entry.get("peer_id", f"peer-{index}")
        if not isinstance(name, str) or not 0 < len(name) <= ACTION_ID_MAX:
            raise InvalidArgumentError(f"peer_times[{index}].peer_id must be a text of 1 to {ACTION_ID_MAX} characters")
        self.name = name
        self.vector_clock = self._vector(index, entry.get("vector_clock"))
        self.time_ns = self._ns(index, entry, "corrected_time", _TIME_MAX_S)
        self.error_ns = self._ns(index, entry, "uncertainty", _TIME_MAX_S) or 0
        self.received_ns = self._ns(index, entry, "received_at", _TIME_MAX_S)
        self.round_trip_ns = self._ns(index, entry, "round_trip_seconds", FUTURE_MAX_S) or 0
        if self.time_ns is None and self.vector_clock is None:
            raise InvalidArgumentError(f"peer_times[{index}] has no corrected_time and no vector_clock: give one of them")
        if self.time_ns is not None and entry.get("uncertainty") is None:
            raise InvalidArgumentError(f"peer_times[{index}].uncertainty is needed beside corrected_time")

    def interval(self, now_ns: int) -> peers.Interval | None:
        """Where the true time is now, by this peer: it read its clock at some moment of the round trip."""
        if self.time_ns is None:
            return None
        received_ns = now_ns if self.received_ns is None else self.received_ns
        age_ns = now_ns - received_ns
        drift_ns = math.ceil(abs(age_ns) * _PHI)
        earliest_ns = self.time_ns + age_ns - self.error_ns - drift_ns
        latest_ns = self.time_ns + age_ns + self.error_ns + drift_ns + self.round_trip_ns
        return peers.Interval(self.name, earliest_ns, latest_ns)

    @staticmethod
    def _ns(index: int, entry: Mapping[str, Any], key: str, high: float) -> int | None:
        value = entry.get(key)
        return None if value is None else _nanoseconds(_number(f"peer_times[{index}].{key}", value, 0.0, high))

    @staticmethod
    def _vector(index: int, vector: object) -> dict[str, int] | None:
        if vector is None:
            return None
        if isinstance(vector, Mapping):
            counts = {name: _count(count) for name, count in vector.items() if isinstance(name, str)}
            if len(counts) == len(vector) <= PEERS_MAX and None not in counts.values():
                return {name: count for name, count in counts.items() if count is not None}
        raise InvalidArgumentError(
            f"peer_times[{index}].vector_clock must be an object of at most {PEERS_MAX} counts, whole numbers from 0"
        )


_PEER_KEYS = ("peer_id", "corrected_time", "uncertainty", "received_at", "round_trip_seconds", "vector_clock")


def _outsider(agreed: peers.Agreement, clock: peers.Interval) -> Result:
    ahead_ns = clock.earliest_ns - agreed.latest_ns
    behind_ns = clock.latest_ns - agreed.earliest_ns
    return {"peer_id": clock.name, "distance_seconds": (ahead_ns if ahead_ns > 0 else behind_ns) / NS_PER_S}


def _strategy(agreed: peers.Agreement, majority: bool, clocks: int) -> Result:
    if clocks == 1:
        return {"action": "order_only", "reason": "no peer gave a time; only the vector clocks were compared"}
    if not majority:
        reason = f"only {agreed.agreeing} of {clocks} clocks have a moment in common: find out which are wrong first"
        return {"action": "do_not_start", "reason": reason}
    if _SELF not in agreed.inside:
        return {"action": "do_not_start", "reason": "this clock is outside what the majority agrees on: do not trust it"}
    outside = [clock.name for clock in agreed.outside]
    if outside:
        return {"action": "start_without_outside", "reason": f"the majority agrees; leave out {', '.join(outside)}"}
    return {"action": "start_at_safe_time", "reason": "all clocks agree: each starts when its own shows safe_start_time"}


def _usable_status(clock: ChronoTickClient) -> str:
    status = clock.status()
    if status in _UNUSABLE:
        raise ChronoTickError(
            f"the clock is not to be trusted now ({status}): wait until the daemon has measured it again", "untrusted"
        )
    return status


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgumentError(f"{name} is a {type(value).__name__}: give a number")
    # An int may be too large for a float, so compare first.
    if not low <= value <= high:
        raise InvalidArgumentError(f"{name} is {_shortened(value)}: give a number from {low:.10g} to {high:.10g}")
    return float(value)


def _shortened(value: int | float) -> str:
    # Python refuses to print an integer of more than 4300 digits.
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    return f"{value:.10g}"


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _nanoseconds(seconds: float) -> int:
    whole = math.floor(seconds)
    # The whole part in integers: a float of nanoseconds since the epoch has a step of 256.
    return whole * NS_PER_S + round((seconds - whole) * NS_PER_S)
