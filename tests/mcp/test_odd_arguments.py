"""Whatever is sent to `/mcp`, the answer is one of JSON-RPC or of HTTP's own refusals: never a 5xx, never silence."""

import json
import random

import pytest
from serving import LEGACY, MODERN, NEW_TOOLS, OLD_TOOLS, Wire, messages

ODD = [
    None, True, 0, -1, 1.5, 2**63, -(2**63) - 1, 1e308, "", " ", "x" * 5000, "\u0000", "\U0001f552", "../../keys", "%2e%2e", "a b",
    "01900000-0000-7000-8000-000000000000", "2030-01-01T00:00:00Z", "5m", "-5m", "999999999999h", "NaN", "yes", "1",
    "* * * * *", "@daily", [], [[]], ["a"] * 50, [None], {}, {"a": {"b": {"c": []}}}, {"": ""}, {"agent": 1},
    [{"id": "c", "kind": "command"}], [{"id": "w", "kind": "webhook", "parameters": {"url": "file:///etc/passwd"}}],
]
FIELDS = [
    "id", "timer_id", "name", "after", "at", "every", "cron", "zone", "count", "actions", "labels", "agent", "agent_id", "team",
    "metadata", "idempotency_key", "confirm", "reason", "extend_by", "state", "status", "limit", "cursor", "duration",
    "webhook", "message", "data", "session_name", "agents", "workflow", "nonsense",
]
# Those that wait: an odd call of them must not hold up the test for as long as a timer may run.
WAITING = {"timer_wait", "quick_wait"}


def properties_of(wire):
    answer = wire.ask("tools/list")[2]
    return {tool["name"]: list(tool["inputSchema"].get("properties", {})) for tool in answer["result"]["tools"]}


def arguments(rng, fields):
    """Some of the tool's own fields and perhaps others, with anything in them."""
    chosen = rng.sample(fields, rng.randint(0, len(fields))) + rng.sample(FIELDS, rng.choice([0, 0, 1]))
    return {field: rng.choice(ODD) for field in chosen}


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
def test_any_arguments_of_any_tool_are_answered(own_service, revision):
    # A wait is given up as a task, and a task is made at once.
    capabilities = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    wire = Wire(own_service, revision=revision, capabilities=capabilities)
    if revision == LEGACY:
        wire.initialize()
    fields = properties_of(wire)
    assert set(fields) == set(NEW_TOOLS + OLD_TOOLS)
    rng = random.Random(7)
    outcomes = {name: set() for name in fields}
    for name in fields:
        for number in range(60):
            asked = {field: ODD[number] for field in fields[name]} if number < len(ODD) else arguments(rng, fields[name])
            if name in WAITING and revision == LEGACY and asked.get("duration") in ("999999999999h", 2**63):
                continue
            status, _, answer = wire.ask("tools/call", name=name, arguments=asked)
            assert status == 200 and ("result" in answer) != ("error" in answer), (name, asked, status, answer)
            result = answer.get("result", {})
            if result.get("isError"):
                problem = result["structuredContent"]
                assert problem["code"] and problem["detail"] and problem["code"] != "internal", (asked, problem)
            outcomes[name].add("refused" if result.get("isError") else "done")
    assert all("refused" in outcome for outcome in outcomes.values()), outcomes
    assert own_service.rest("GET", "/v1/status")[0] == 200


@pytest.mark.parametrize("value", [None, 1, "x", [], [1], True], ids=repr)
@pytest.mark.parametrize("place", ["params", "arguments", "name", "_meta"])
def test_any_params_are_answered(service, place, value):
    for revision in (LEGACY, MODERN):
        wire = Wire(service, revision=revision)
        if revision == LEGACY:
            wire.initialize()
        params = {"name": "timer_list", "arguments": {}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        if place == "params":
            message["params"] = value
        else:
            params[place] = value
        check(*wire.post(message, {"mcp-method": "tools/call", "mcp-name": "timer_list"}))


def check(status, _headers, text):
    assert status < 500, (status, text)
    if status == 200:
        assert messages(text), text


def deep(levels):
    return b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ' + b"[" * levels + b"]" * levels + b"}"


ASK = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"{}", b'{"jsonrpc": "1.0"}', deep(200), deep(100_000),
        json.dumps([ASK, ASK]).encode(), json.dumps({**ASK, "id": None}).encode(), json.dumps({**ASK, "id": {}}).encode(),
        json.dumps({**ASK, "id": 2**70}).encode(), json.dumps({**ASK, "method": 7}).encode(),
        json.dumps({**ASK, "method": "no/such"}).encode(), json.dumps({**ASK, "method": "x" * 100_000}).encode(),
        json.dumps({"jsonrpc": "2.0", "id": 99, "result": {"action": "accept"}}).encode(),
        json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {}}}).encode(),
        b" " * (2 << 20),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_any_body_is_answered(service, body):
    for revision in (LEGACY, MODERN):
        wire = Wire(service, revision=revision)
        check(*wire.post(body))
        if revision == LEGACY:
            wire.initialize()
            check(*wire.post(body))
            # The session goes on.
            assert wire.ask("tools/list")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": "text/html"}, {"content-type": "text/plain"}, {"mcp-protocol-version": "tomorrow"},
        {"mcp-protocol-version": "1999-01-01"}, {"mcp-session-id": ""}, {"mcp-session-id": "x" * 5000},
        {"last-event-id": "\xff"}, {"mcp-session-id": "\xff"}, {"mcp-method": "tools/call"}, {"x-tenant-id": "\xff"},
    ],
    ids=repr,
)
def test_any_headers_are_answered(service, headers):
    for revision in (LEGACY, MODERN):
        status, _, text = Wire(service, revision=revision).post(ASK, headers)
        assert 200 <= status < 500, (status, text)
