"""The tools as a client sees them: names, descriptions, JSON schemas, annotations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from chronotick.mcp import tools

Schema = dict[str, Any]


class Tool(NamedTuple):
    """One tool. `function` takes the arguments of `input_schema` by name, and `client`."""

    name: str
    title: str
    description: str
    function: Callable[..., dict[str, Any]]
    input_schema: Schema
    output_schema: Schema
    annotations: dict[str, bool]

    @property
    def waits(self) -> bool:
        """True when a call lasts, so that it tells its progress and can be cancelled."""
        return self.function is tools.wait_until_time

    @property
    def may_block(self) -> bool:
        """True when a call may ask another service, and so is not made in an event loop."""
        return self.function is tools.schedule_action


def is_callers_fault(result: dict[str, Any]) -> bool:
    """True for a result that says the arguments were wrong; the state of the clock is an answer, not a fault."""
    return result.get("code") in ("invalid_argument", "already_past")


def _described(kind: str | list[str], description: str, **more: Any) -> Schema:
    return {"type": kind, "description": description, **more}


def _number(description: str, **more: Any) -> Schema:
    return _described("number", description, **more)


def _maybe(description: str) -> Schema:
    return _described(["number", "null"], description)


def _integer(description: str) -> Schema:
    return _described("integer", description, minimum=0)


def _flag(description: str) -> Schema:
    return _described("boolean", description)


def _text(description: str, *words: str) -> Schema:
    return _described("string", description, **({"enum": list(words)} if words else {}))


def _list(description: str, items: Schema) -> Schema:
    return _described("array", description, items=items)


def _object(properties: Schema, required: list[str] | None = None, **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
        **more,
    }


_ERROR: Schema = {
    "error": _text("What went wrong and what to do next"),
    "code": _text("The same in one stable word"),
    "daemon_running": _flag("Whether a clock daemon publishes the time"),
}
_LATENCY: Schema = {"call_latency_ms": _number("How long the call took, ms")}
_CLOCK_STATUS = _text("How far the clock can be trusted", "synchronized", "holdover", "warming_up", "legacy")
_CONFIDENCE = _number("The daemon's confidence, 0 to 1")
_SOURCE = _text("What the correction was computed from", "no_data", "ntp", "cpu_model", "gpu_model", "fusion")
_SIGMA = _number("One standard deviation of the corrected time, s")


def _output(properties: Schema, error: Schema = _ERROR) -> Schema:
    """Either all of these, or an error. The root must be an object, so the two are told apart by what is required."""
    return {
        "type": "object",
        "properties": {**error, **properties},
        "anyOf": [{"required": list(properties)}, {"required": list(error)}],
        "additionalProperties": False,
    }


def _annotations(read_only: bool = True, idempotent: bool = True) -> dict[str, bool]:
    return {
        "readOnlyHint": read_only,
        "destructiveHint": False,
        "idempotentHint": idempotent,
        "openWorldHint": False,
    }


_NO_ARGUMENTS = _object({})

_PEER = _object(
    {
        "peer_id": _text("The peer's name"),
        "corrected_time": _number("What its clock showed, Unix s"),
        "uncertainty": _number("Half the width of what it holds possible, s: its max_error, else three sigma", minimum=0),
        "received_at": _number("This clock's corrected time when its answer came, Unix s; left out: now"),
        "round_trip_seconds": _number("How long question and answer took; left out: 0", minimum=0),
        "vector_clock": {
            "type": "object",
            "description": "How many events of each process it knows of",
            "additionalProperties": {"type": "integer", "minimum": 0},
        },
    },
    required=[],
)

_TIMER = {
    "type": ["object", "null"],
    "description": "The durable timer; null when no timer service is configured (MINOOTS_URL)",
    "properties": {
        "url": _text("The timer service"),
        "id": _text("The timer's id"),
        "state": _text("The timer's state"),
        "due_at": _text("When it fires, RFC 3339, corrected time"),
        "created": _flag("False when the same action and time had made it before"),
        "error": _text("Why there is no timer"),
    },
    "required": ["url"],
}

TOOLS: tuple[Tool, ...] = (
    Tool(
        "get_time",
        "Corrected time",
        "The corrected time now (Unix seconds), with its uncertainty and what it was made of. Use it instead of the "
        "system clock wherever events on several machines are compared.",
        tools.get_time,
        _NO_ARGUMENTS,
        _output(
            {
                "corrected_time": _number("The best estimate of the true time, Unix s"),
                "system_time": _number("The system clock at the same moment, Unix s"),
                "offset_correction": _number("Corrected minus system time, s"),
                "drift_rate": _number("The rate of the correction, s/s"),
                "offset_uncertainty": _number("One standard deviation of the offset when it was published, s"),
                "drift_uncertainty": _number("One standard deviation of the rate, s/s"),
                "time_uncertainty": _SIGMA,
                "confidence": _CONFIDENCE,
                "source": _SOURCE,
                "prediction_time": _number("The moment for which the correction was computed, Unix s"),
                "valid_until": _number("Until when the correction is valid, Unix s"),
                "is_valid": _flag("Whether the time can be used now"),
                "is_ntp_ready": _flag("Whether NTP measurements have been made"),
                "is_models_ready": _flag("Whether models take part in the correction"),
                **_LATENCY,
            }
        ),
        _annotations(idempotent=False),
    ),
    Tool(
        "get_daemon_status",
        "Clock daemon status",
        "Whether the clock daemon runs and has warmed up, how much it has measured and when it last did.",
        tools.get_daemon_status,
        _NO_ARGUMENTS,
        _output(
            {
                "status": _text("How the daemon is doing", "ready", "warming_up", "not_running"),
                "warmup_complete": _flag("Whether it has measured enough"),
                "measurement_count": _integer("Accepted measurements"),
                "total_corrections": _integer("Corrections published"),
                "daemon_uptime": _number("How long it has run, s"),
                "last_ntp_sync": _number("The last accepted measurement, Unix s; 0 for none"),
                "seconds_since_ntp": _maybe("How long ago that was; null for never"),
                "ntp_ready": _flag("Whether NTP measurements have been made"),
                "models_ready": _flag("Whether models take part in the correction"),
                "average_latency_ms": _number("From due to published, mean, ms"),
                "data_source": _SOURCE,
                "confidence": _CONFIDENCE,
                **_LATENCY,
            },
            {**_ERROR, "status": _text("not_running beside an error", "ready", "warming_up", "not_running")},
        ),
        _annotations(idempotent=False),
    ),
    Tool(
        "get_time_with_future_uncertainty",
        "Time with future uncertainty",
        "The time now and at a moment up to an hour ahead, with the uncertainty (one standard deviation) of each.",
        tools.get_time_with_future_uncertainty,
        _object({"future_seconds": _number("How far ahead, s", minimum=0, maximum=tools.FUTURE_MAX_S)}),
        _output(
            {
                "current_corrected_time": _number("Corrected time now, Unix s"),
                "current_system_time": _number("The system clock now, Unix s"),
                "current_uncertainty": _number("One standard deviation now, s"),
                "future_seconds": _number("How far ahead, s"),
                "future_corrected_time": _number("Corrected time then, Unix s"),
                "future_system_time": _number("The system clock then, Unix s"),
                "future_uncertainty": _number("One standard deviation then, s"),
                "uncertainty_increase": _number("How much the uncertainty grows until then, s"),
                "confidence": _CONFIDENCE,
                **_LATENCY,
            }
        ),
        _annotations(idempotent=False),
    ),
    Tool(
        "schedule_action",
        "Schedule an action",
        "When to act on the system clock so that it is the given corrected time, with the window of that moment; "
        "allows for drift and uncertainty. Where a timer service is configured it also makes a durable timer, which "
        "survives restarts; the same action_id and time give the same timer. It does not carry the action out.",
        tools.schedule_action,
        _object(
            {
                "target_corrected_time": _number("When, corrected time, Unix s"),
                "action_id": _described(
                    "string", "The caller's name for the action", minLength=1, maxLength=tools.ACTION_ID_MAX
                ),
            }
        ),
        _output(
            {
                "action_id": _text("As it was given"),
                "target_corrected_time": _number("As it was given, Unix s"),
                "execute_at_system_time": _number("What the system clock shows then, Unix s"),
                "earliest_system_time": _number("The moment is not before this, Unix s of the system clock"),
                "latest_system_time": _number("The moment is not after this, Unix s of the system clock"),
                "window_kind": _text("What the window is", "hard_bound", "three_sigma"),
                "delay_seconds": _number("How long from now"),
                "time_uncertainty": _SIGMA,
                "offset_at_target": _number("Corrected minus system time then, s"),
                "drift_rate": _number("The rate of the correction, s/s"),
                "current_corrected_time": _number("Corrected time now, Unix s"),
                "current_system_time": _number("The system clock now, Unix s"),
                "clock_status": _CLOCK_STATUS,
                "timer": _TIMER,
                **_LATENCY,
            }
        ),
        _annotations(read_only=False),
    ),
    Tool(
        "synchronize_with_peers",
        "Synchronize with peers",
        "Compares the clocks of peers with this one: the interval that most agree on (Marzullo), who is outside it, a "
        "time at which all can safely start together, and the causal order of their vector clocks. Ask each peer for "
        "get_time, note received_at and round_trip_seconds, and give them all at once.",
        tools.synchronize_with_peers,
        _object({"peer_times": _described("array", "The peers", items=_PEER, minItems=1, maxItems=tools.PEERS_MAX)}),
        _output(
            {
                "peer_count": _integer("Peers that gave a time"),
                "common_interval": _object(
                    {"earliest": _number("Unix s"), "latest": _number("Unix s")},
                    description="Where most clocks agree the true time is now",
                ),
                "agreeing_count": _integer("Clocks that share a moment, this one included"),
                "majority": _flag("Whether those are more than half"),
                "agreeing": _list("Clocks that meet the interval; this one is self", {"type": "string"}),
                "outside": _list(
                    "Clocks that do not",
                    _object(
                        {
                            "peer_id": _text("The clock"),
                            "distance_seconds": _number("How far from the interval; negative when behind"),
                        }
                    ),
                ),
                "best_estimate": _number("The middle of the interval, Unix s"),
                "uncertainty": _number("Half the width of the interval, s"),
                "own_corrected_time": _number("This clock's corrected time now, Unix s"),
                "safe_start_time": _maybe("No agreeing clock has passed this when told within lead_seconds, Unix s"),
                "start_spread_seconds": _maybe("How far apart two agreeing peers may start at most, s"),
                "lead_seconds": _number("The time that the proposal has to reach everybody"),
                "causal_order": _list(
                    "For each pair of vector clocks: a is `order` b",
                    _object(
                        {
                            "a": _text("One peer"),
                            "b": _text("Another peer"),
                            "order": _text("a is this b", "before", "after", "equal", "concurrent"),
                        }
                    ),
                ),
                "merged_vector_clock": _described(
                    "object", "What knows of all of them", additionalProperties={"type": "integer"}
                ),
                "strategy": _object(
                    {
                        "action": _text(
                            "What to do",
                            "start_at_safe_time",
                            "start_without_outside",
                            "do_not_start",
                            "order_only",
                        ),
                        "reason": _text("Why"),
                    }
                ),
                "clock_status": _CLOCK_STATUS,
                **_LATENCY,
            }
        ),
        _annotations(idempotent=False),
    ),
    Tool(
        "get_time_bounds",
        "Time bounds",
        "The interval [earliest_time, latest_time] that surely contains the true time at a moment ahead, if the local "
        "oscillator keeps within 15 ppm of its measured rate.",
        tools.get_time_bounds,
        _object({"duration_seconds": _number("How far ahead, s", minimum=0, maximum=tools.DURATION_MAX_S)}),
        _output(
            {
                "duration_seconds": _number("How far ahead, s"),
                "earliest_time": _number("The true time then is not before this, Unix s"),
                "latest_time": _number("The true time then is not after this, Unix s"),
                "expected_time": _number("Corrected time then, Unix s"),
                "max_error": _number("Half the width, s"),
                "time_uncertainty": _SIGMA,
                "clock_status": _CLOCK_STATUS,
                "guaranteed": _flag("True while the clock is synchronized or in holdover"),
                "confidence": _CONFIDENCE,
                **_LATENCY,
            }
        ),
        _annotations(idempotent=False),
    ),
    Tool(
        "wait_until_time",
        "Wait until a time",
        "Blocks until the given corrected time, at most a day; tells its progress and can be cancelled. Returns when it "
        "woke and how late that was.",
        tools.wait_until_time,
        _object(
            {
                "target_corrected_time": _number("Until when, corrected time, Unix s"),
                "tolerance_ms": _number(
                    "How late it may wake, ms; below 1 it spins at the end", default=1.0, minimum=0, maximum=60_000
                ),
            },
            required=["target_corrected_time"],
        ),
        _output(
            {
                "target_corrected_time": _number("As it was given, Unix s"),
                "actual_wake_time": _number("Corrected time when it woke, Unix s"),
                "accuracy_achieved": _number("How late that was, s"),
                "accuracy_achieved_ms": _number("The same in ms"),
                "tolerance_ms": _number("As it was given, ms"),
                "within_tolerance": _flag("Whether it woke within the tolerance"),
                "waited_seconds": _number("How long it waited"),
                "time_uncertainty": _SIGMA,
                "max_error": _maybe("The hard bound on the corrected time's error, s; null without a bound"),
                "clock_status": _text("How far the clock can be trusted"),
            }
        ),
        _annotations(idempotent=False),
    ),
)

BY_NAME: dict[str, Tool] = {tool.name: tool for tool in TOOLS}
