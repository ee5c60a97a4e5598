"""The tools as plain functions, over pages made here."""

import http.server
import inspect
import json
import math
import random
import subprocess
import sys
import threading
import time

import pytest
from support import DISRUPTED, HOLDOVER, NTP_READY, VALID, WARMUP_COMPLETE, live_page, old_page

jsonschema = pytest.importorskip("jsonschema", reason="requirements-mcp.txt is not installed")
from serving import arguments_for, check_result, page_with, publish  # noqa: E402

from chronotick import ChronoTickClient  # noqa: E402
from chronotick.mcp import peers, tools  # noqa: E402
from chronotick.mcp.catalog import BY_NAME, TOOLS, is_callers_fault  # noqa: E402

# The compat list of the old package.
OLD_KEYS = {
    "get_time": "corrected_time system_time offset_correction drift_rate offset_uncertainty drift_uncertainty "
    "time_uncertainty confidence source prediction_time valid_until is_valid is_ntp_ready is_models_ready "
    "call_latency_ms",
    "get_daemon_status": "status warmup_complete measurement_count total_corrections daemon_uptime last_ntp_sync "
    "seconds_since_ntp ntp_ready models_ready average_latency_ms data_source confidence call_latency_ms",
    "get_time_with_future_uncertainty": "current_corrected_time current_system_time current_uncertainty future_seconds "
    "future_corrected_time future_system_time future_uncertainty uncertainty_increase confidence call_latency_ms",
}


@pytest.fixture
def clock(page_file):
    return ChronoTickClient(page_file.path)


def call(name, clock, **arguments):
    result = BY_NAME[name].function(**arguments, client=clock)
    check_result(name, result)
    # What a client gets is JSON, and JSON has no NaN.
    json.dumps(result, allow_nan=False)
    return result


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_results_are_as_their_schemas_say(tool, clock):
    arguments = arguments_for(clock.now_ns() / 1e9)[tool.name]
    jsonschema.Draft202012Validator.check_schema(tool.input_schema)
    jsonschema.Draft202012Validator.check_schema(tool.output_schema)
    jsonschema.validate(arguments, tool.input_schema)
    result = call(tool.name, clock, **arguments)
    assert "error" not in result
    if tool.name in OLD_KEYS:
        assert set(result) == set(OLD_KEYS[tool.name].split())


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_the_schema_names_the_parameters(tool):
    parameters = inspect.signature(tool.function).parameters.values()
    taken = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in taken] == list(tool.input_schema["properties"])
    assert [p.name for p in taken if p.default is p.empty] == tool.input_schema["required"]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_without_a_daemon_the_result_says_so(tool, tmp_path):
    result = call(tool.name, ChronoTickClient(str(tmp_path / "none")), **arguments_for(time.time() + 1)[tool.name])
    assert result["daemon_running"] is False and result["code"] == "not_running"
    assert result["error"].startswith("ChronoTick daemon not running.")
    assert result.get("status") == ("not_running" if tool.name == "get_daemon_status" else None)
    assert not is_callers_fault(result)


def test_get_time_agrees_with_the_client(page_file):
    clock = ChronoTickClient(page_file(page_with(offset_s=-0.75, drift_rate=3e-6)))
    before, result, after = clock.get_time(), call("get_time", clock), clock.get_time()
    assert before.corrected_timestamp <= result["corrected_time"] <= after.corrected_timestamp
    assert result["offset_correction"] == pytest.approx(-0.75, abs=1e-4)
    assert result["drift_rate"] == 3e-6 and result["source"] == "ntp" and result["is_valid"] is True


@pytest.mark.parametrize(
    ("changes", "valid", "daemon", "usable"),
    [
        ({}, True, "ready", True),
        ({"flags": VALID | NTP_READY | WARMUP_COMPLETE | HOLDOVER}, True, "ready", True),
        ({"flags": VALID | NTP_READY}, True, "warming_up", True),
        ({"flags": VALID | NTP_READY | WARMUP_COMPLETE | DISRUPTED}, False, "warming_up", False),
        ({"flags": NTP_READY | WARMUP_COMPLETE}, False, "not_running", False),
        ({"valid_for_s": -1.0}, False, "not_running", False),
        ({"flags": VALID | DISRUPTED, "valid_for_s": -1.0}, False, "not_running", False),
    ],
    ids=["synchronized", "holdover", "warming_up", "disrupted", "shut_down", "expired", "died_disrupted"],
)
def test_the_status_of_the_page(changes, valid, daemon, usable, page_file):
    clock = ChronoTickClient(page_file(live_page(**changes)))
    assert call("get_time", clock)["is_valid"] is valid
    assert call("get_daemon_status", clock)["status"] == daemon
    for name, arguments in arguments_for(clock.now().corrected_ns / 1e9 + 60).items():
        if name in ("get_time", "get_daemon_status", "get_time_with_future_uncertainty", "wait_until_time"):
            continue
        result = call(name, clock, **arguments)
        assert ("error" not in result) is usable
        assert usable or (result["code"] == "untrusted" and result["daemon_running"] is (daemon != "not_running"))
    if not usable:
        target = clock.now().corrected_ns / 1e9 + 60
        assert call("wait_until_time", clock, target_corrected_time=target)["code"] == "untrusted"


def test_a_daemon_that_has_measured_nothing_yet(page_file):
    page = bytearray(live_page())
    page[88:96] = bytes(8)
    result = call("get_daemon_status", ChronoTickClient(page_file(bytes(page))))
    assert result["seconds_since_ntp"] is None and result["last_ntp_sync"] == 0


def test_pages_that_are_none(page_file):
    for page, code in ((bytes(64), "wrong_size"), (b"\xff" * 128, "page_corrupt")):
        result = call("get_time", ChronoTickClient(page_file(page)))
        assert result["code"] == code and "error" in result


def test_a_legacy_page_has_no_hard_bound(page_file):
    clock = ChronoTickClient(page_file(old_page(time.time())))
    assert call("get_time", clock)["source"] == "fusion"
    assert call("get_time_bounds", clock, duration_seconds=1)["code"] == "untrusted"
    schedule = call("schedule_action", clock, target_corrected_time=time.time() + 60, action_id="a")
    assert schedule["window_kind"] == "three_sigma" and schedule["clock_status"] == "legacy"


BAD = (math.nan, math.inf, -math.inf, -1, 10**400, -(10**400), 1e300, "5", None, True, [], {})
NUMBERS = [
    ("get_time_with_future_uncertainty", {"future_seconds": 1}),
    ("get_time_bounds", {"duration_seconds": 1}),
    ("schedule_action", {"target_corrected_time": 4e9, "action_id": "a"}),
    ("wait_until_time", {"target_corrected_time": 4e9, "tolerance_ms": 1}),
    ("synchronize_with_peers", {"peer_times": [{"corrected_time": 4e9, "uncertainty": 1}]}),
]


@pytest.mark.parametrize(("name", "good"), NUMBERS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("bad", BAD, ids=lambda v: f"{v!r:.12}")
def test_numbers_that_are_none(name, good, bad, clock):
    for key in good.keys() - {"action_id"}:
        result = call(name, clock, **{**good, key: bad})
        assert result["code"] == "invalid_argument" and is_callers_fault(result) and result["daemon_running"] is True
        assert len(result["error"]) < 200


def test_bounds_grow_by_15_ppm_and_three_sigma_of_the_rate(page_file):
    clock = ChronoTickClient(page_file(page_with(drift_uncertainty=1e-6)))
    near = call("get_time_bounds", clock, duration_seconds=10)
    far = call("get_time_bounds", clock, duration_seconds=3610)
    assert far["max_error"] - near["max_error"] == pytest.approx(3600 * (15e-6 + 3e-6), rel=1e-3)
    for bounds in (near, far):
        assert bounds["latest_time"] - bounds["earliest_time"] == pytest.approx(2 * bounds["max_error"], abs=1e-6)
        assert bounds["earliest_time"] < bounds["expected_time"] < bounds["latest_time"] and bounds["guaranteed"]


def test_the_future_is_as_far_as_asked(page_file):
    clock = ChronoTickClient(page_file(page_with(drift_rate=1e-4, drift_uncertainty=1e-6)))
    result = call("get_time_with_future_uncertainty", clock, future_seconds=1000)
    assert result["future_system_time"] - result["current_system_time"] == pytest.approx(1000, abs=1e-6)
    gained = result["future_corrected_time"] - result["current_corrected_time"] - 1000
    assert gained == pytest.approx(0.1, abs=1e-5)
    assert result["uncertainty_increase"] == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("drift_rate", [0.0, 2e-4, -2e-4])
def test_a_schedule_is_the_inverse_of_the_clock(drift_rate, page_file):
    clock = ChronoTickClient(page_file(page_with(offset_s=0.5, drift_rate=drift_rate)))
    target = math.ceil(clock.now_ns() / 1e9) + 5000.0
    result = call("schedule_action", clock, target_corrected_time=target, action_id="backup")
    then = clock.at_system_time(round(result["execute_at_system_time"] * 1e9))
    assert then.corrected_ns / 1e9 == pytest.approx(target, abs=2e-6)
    assert result["offset_at_target"] == pytest.approx(0.5 + 5000 * drift_rate, abs=1e-3)
    half = (result["latest_system_time"] - result["earliest_system_time"]) / 2
    assert half == pytest.approx(then.max_error_ns / 1e9, rel=1e-3) and result["window_kind"] == "hard_bound"
    assert result["timer"] is None


def test_a_schedule_of_the_past(clock):
    result = call("schedule_action", clock, target_corrected_time=time.time() - 10, action_id="a")
    assert result["code"] == "already_past" and "passed 10." in result["error"]
    for action_id in ("", "x" * 257, 5, None):
        result = call("schedule_action", clock, target_corrected_time=4e9, action_id=action_id)
        assert result["code"] == "invalid_argument"


class TimerService(http.server.BaseHTTPRequestHandler):
    """Answers POST /v1/timers as docs/api/rest.md says; the name `refused` is refused."""

    made = {}

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/timers" and self.headers["Content-Type"] == "application/json"
        if body["name"] == "refused":
            return self.answer(400, {"code": "time_too_far", "detail": "the time lies too far ahead"})
        status = 200 if body["idempotency_key"] in self.made else 201
        timer = {"id": "01a1", "name": body["name"], "state": "scheduled", "due_at": body["at"]}
        return self.answer(status, self.made.setdefault(body["idempotency_key"], timer))

    def answer(self, status, value):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_):
        pass


def test_a_durable_timer_of_the_timer_service(clock, monkeypatch):
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), TimerService)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{service.server_port}"
    monkeypatch.setenv("MINOOTS_URL", url + "/")
    schedule = {"target_corrected_time": 4_000_000_000.25, "action_id": "backup"}
    try:
        first, again = (call("schedule_action", clock, **schedule)["timer"] for _ in range(2))
        refused = call("schedule_action", clock, **{**schedule, "action_id": "refused"})
    finally:
        service.shutdown()
        service.server_close()
    assert first == {
        "url": url, "id": "01a1", "state": "scheduled", "due_at": "2096-10-02T07:06:40.250000000Z", "created": True,
    }
    assert again == {**first, "created": False}
    assert "error" not in refused
    assert refused["timer"] == {"url": url, "error": "the timer service answered 400: the time lies too far ahead"}
    # Nobody listens there any more, and the schedule holds all the same.
    away = call("schedule_action", clock, **schedule)
    assert "error" not in away and "Connection refused" in away["timer"]["error"]
    monkeypatch.setenv("MINOOTS_URL", "file:///etc")
    assert "http://" in call("schedule_action", clock, **schedule)["timer"]["error"]


def test_peers_that_agree_and_one_that_does_not(clock):
    now = clock.now_ns() / 1e9
    result = call(
        "synchronize_with_peers",
        clock,
        peer_times=[
            {"peer_id": "b", "corrected_time": now + 0.1, "uncertainty": 0.2, "vector_clock": {"a": 1, "b": 2}},
            {"peer_id": "c", "corrected_time": now - 100, "uncertainty": 0.2, "received_at": now - 100,
             "round_trip_seconds": 3, "vector_clock": {"a": 1, "b": 1}},
            {"peer_id": "liar", "corrected_time": now + 50, "uncertainty": 0.001},
            {"peer_id": "a", "vector_clock": {"a": 2, "b": 1}},
        ],
    )
    assert result["agreeing"] == ["self", "b", "c"] and result["agreeing_count"] == 3 and result["majority"] is True
    assert [(o["peer_id"], o["distance_seconds"] > 49) for o in result["outside"]] == [("liar", True)]
    assert result["strategy"]["action"] == "start_without_outside" and "liar" in result["strategy"]["reason"]
    # The largest error is that of c, 0.2 s and a little for 100 s of drift; b's is 0.2 s; two round trips are 6 s.
    assert result["lead_seconds"] == 6
    assert result["safe_start_time"] == pytest.approx(result["common_interval"]["latest"] + 6.2, abs=1e-3)
    assert result["start_spread_seconds"] == pytest.approx(0.4, abs=1e-3)
    order = {(o["a"], o["b"]): o["order"] for o in result["causal_order"]}
    assert order == {("b", "c"): "after", ("b", "a"): "concurrent", ("c", "a"): "before"}
    assert result["merged_vector_clock"] == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("offsets", "action"),
    [
        ([0.0, 0.0], "start_at_safe_time"),
        ([50.0], "do_not_start"),
        ([50.0, 50.0], "do_not_start"),
        ([50.0, -50.0], "do_not_start"),
        ([0.0, 0.0, 50.0], "start_without_outside"),
        ([], "order_only"),
    ],
)
def test_the_strategy(offsets, action, clock):
    now = clock.now_ns() / 1e9
    entries = [{"corrected_time": now + offset, "uncertainty": 0.5} for offset in offsets]
    result = call("synchronize_with_peers", clock, peer_times=entries or [{"vector_clock": {"a": 1}}])
    assert result["strategy"]["action"] == action
    assert (result["safe_start_time"] is None) is (not result["majority"])


@pytest.mark.parametrize(
    "peer_times",
    [
        [], "abc", 5, [5], [{}], [{"corrected_time": 1.0}], [{"vector_clock": {"a": -1}}], [{"vector_clock": {"a": 1.5}}],
        [{"vector_clock": []}], [{"peer_id": ""}], [{"who": 1}], [{"peer_id": "self", "corrected_time": 1, "uncertainty": 1}],
        [{"peer_id": "a", "vector_clock": {}}, {"peer_id": "a", "vector_clock": {}}], [{"vector_clock": {"a": 1}}] * 101,
    ],
)
def test_peers_that_are_none(peer_times, clock):
    result = call("synchronize_with_peers", clock, peer_times=peer_times)
    assert result["code"] == "invalid_argument" and result["daemon_running"] is True


def test_the_common_interval_against_counting():
    choice = random.Random(6)
    for _ in range(500):
        clocks = []
        for name in range(choice.randint(1, 7)):
            begin = choice.randint(0, 20)
            clocks.append(peers.Interval(str(name), begin, begin + choice.randint(0, 8)))
        found = peers.common_interval(clocks)
        # Half steps, so that a moment between two edges is counted too.
        counts = {at / 2: sum(c.earliest_ns <= at / 2 <= c.latest_ns for c in clocks) for at in range(62)}
        most = max(counts.values())
        best = [at for at, count in counts.items() if count == most]
        assert (found.agreeing, found.earliest_ns, found.latest_ns) == (most, best[0], best[-1]), clocks
        assert len(found.inside) + len(found.outside) == len(clocks)


def test_vector_clocks():
    for a, b, order in (
        ({}, {}, "equal"), ({"a": 0}, {}, "equal"), ({"a": 1}, {"a": 2}, "before"), ({"a": 1, "b": 1}, {"a": 1}, "after"),
        ({"a": 1}, {"b": 1}, "concurrent"), ({"a": 2, "b": 1}, {"a": 1, "b": 2}, "concurrent"),
    ):
        assert peers.vector_order(a, b) == order


def test_a_wait_ends_after_its_target(clock):
    seen = []
    target = clock.now_ns() / 1e9 + 0.3
    result = tools.wait_until_time(target, client=clock, on_progress=lambda *at: seen.append(at))
    after = clock.now_ns() / 1e9
    check_result("wait_until_time", result)
    assert target <= result["actual_wake_time"] <= after + 1e-6
    assert result["accuracy_achieved"] >= 0 and result["clock_status"] == "synchronized"
    assert result["within_tolerance"] is (result["accuracy_achieved_ms"] <= 1.0)
    waited = [at for at, _ in seen]
    assert waited == sorted(waited) and len(seen) >= 2 and all(0 < total <= 0.3 for _, total in seen)


def test_a_wait_is_stopped_by_an_event(clock):
    stop = threading.Event()
    target = clock.now_ns() / 1e9 + 600
    # The event is set while the wait runs: at its first report.
    result = tools.wait_until_time(target, client=clock, on_progress=lambda *_: stop.set(), stop=stop.wait)
    check_result("wait_until_time", result)
    assert result["code"] == "cancelled" and not is_callers_fault(result)


def test_waits_that_cannot_be(clock):
    past = call("wait_until_time", clock, target_corrected_time=time.time() - 1)
    assert past["code"] == "already_past" and is_callers_fault(past)
    far = call("wait_until_time", clock, target_corrected_time=time.time() + 90_000)
    assert far["code"] == "invalid_argument" and "schedule_action" in far["error"]


def test_a_clock_that_fails_during_a_wait_ends_it(page_file, clock):
    def fail(*_):
        publish(page_file.path, flags=VALID | WARMUP_COMPLETE | DISRUPTED)

    result = tools.wait_until_time(clock.now_ns() / 1e9 + 600, client=clock, on_progress=fail)
    assert result["code"] == "untrusted"


def test_importing_the_tools_imports_no_framework():
    program = (
        "import sys, chronotick.mcp, chronotick.mcp.tools, chronotick.mcp.catalog, chronotick.mcp.stdio_server\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('mcp', 'mcp_types', 'claude_agent_sdk', 'anyio')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
