"""Every tool, every transport and two revisions of the protocol with the official Python client."""

import json

import jsonschema
import pytest
from mcp.shared.exceptions import MCPError
from serving import LEGACY, MODERN, NEW_TOOLS, OLD_TOOLS, Checked, Wire, connected, run

EVERY_WAY = pytest.mark.parametrize("revision", [LEGACY, MODERN])
TRANSPORTS = pytest.mark.parametrize("transport", ["stdio", "http"])


@TRANSPORTS
@EVERY_WAY
def test_the_list_of_tools(service, transport, revision):
    async def test():
        async with connected(service, transport, revision) as client:
            assert client.protocol_version == revision
            if revision == LEGACY:
                assert client.server_info.name == "minoots-timer-system" and "timer_explain" in client.instructions
                assert client.server_capabilities.resources.subscribe
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == NEW_TOOLS + OLD_TOOLS
            for tool in tools:
                assert tool.description and tool.annotations.read_only_hint is not None
                for schema in (tool.input_schema, tool.output_schema):
                    jsonschema.Draft202012Validator.check_schema(schema)
                    assert schema["type"] == "object"
            ends = {tool.name for tool in tools if tool.annotations.destructive_hint}
            assert ends == {"timer_cancel", "timers_cancel", "delete_timer"}

    run(test)


@TRANSPORTS
@EVERY_WAY
def test_every_tool_gives_what_its_schema_says(service, transport, revision):
    team = f"team-{transport}-{revision}"

    async def test():
        reports = []

        async def progress(at, total, message):
            reports.append((at, message))

        async with connected(service, transport, revision) as client:
            call = await Checked.of(client)
            made = await call(
                "timer_create",
                {
                    "name": "tea", "every": "1h", "labels": {"kind": "drink"}, "team": team, "agent": "kettle",
                    "metadata": {"cups": 2}, "idempotency_key": f"{team}-tea",
                },
            )
            assert (made["state"], made["metadata"], made["labels"]["team"]) == ("scheduled", {"cups": 2}, team)
            again = await call(
                "timer_create",
                {
                    "name": "tea", "every": "1h", "labels": {"kind": "drink"}, "team": team, "agent": "kettle",
                    "metadata": {"cups": 2}, "idempotency_key": f"{team}-tea",
                },
            )
            one = {"id": made["id"]}
            assert again["id"] == made["id"]
            assert (await call("timer_get", one))["name"] == "tea"
            assert (await call("timer_explain", one))["verdict"] == "not_due"
            assert (await call("timer_pause", {**one, "reason": "lunch"}))["pause_reason"] == "lunch"
            assert (await call("timer_explain", one))["verdict"] == "paused"
            assert (await call("timer_resume", one))["state"] == "scheduled"
            moved = await call("timer_reschedule", {**one, "after": "2h"})
            assert moved["due_at"] > made["due_at"]
            assert (await call("timer_fire", one))["fires"] == 1
            lines = (await call("timer_history", one))["entries"]
            assert [(line["outcome"], line["by_hand"]) for line in lines] == [("fired", True)]
            told = await call("timer_explain", one)
            assert (told["verdict"], told["causes"][0]["code"]) == ("on_time", "fired_by_hand")
            found = await call("timer_list", {"team": team, "labels": {"kind": "drink"}, "limit": 5})
            assert [timer["id"] for timer in found["timers"]] == [made["id"]] and found["next_cursor"] is None
            assert (await call("timer_cancel", {**one, "reason": "cold"}))["cancel_reason"] == "cold"
            assert (await call("timer_explain", one))["verdict"] == "cancelled"

            short = await call("timer_create", {"name": "short", "after": "300ms", "team": team})
            waited = await call("timer_wait", {"id": short["id"]}, progress_callback=progress)
            assert (waited["state"], waited["fires"]) == ("completed", 1)
            assert reports and all("due 2" in message for _, message in reports)
            assert [at for at, _ in reports] == sorted(at for at, _ in reports)

            old = await call("create_timer", {"name": "old", "duration": "1h", "agent_id": "a", "team": team, "message": "m"})
            assert old["metadata"] == {"message": "m"}
            assert (await call("get_timer", {"timer_id": old["id"]}))["labels"] == {"agent": "a", "team": team}
            listed = await call("list_timers", {"team": team, "status": "running"})
            assert [timer["id"] for timer in listed["timers"]] == [old["id"]]
            assert (await call("delete_timer", {"timer_id": old["id"]}))["state"] == "cancelled"
            assert (await call("quick_wait", {"duration": 200, "name": "q", "agent_id": "a"}))["state"] == "completed"
            said = await call("broadcast_to_team", {"team": team, "message": "hello", "data": {"n": 1}})
            assert said["metadata"] == {"message": "hello", "data": {"n": 1}}
            session = {"session_name": "s", "agents": ["a", "b"], "workflow": "sequential"}
            timers = (await call("agent_coordination_session", session))["timers"]
            assert [timer["labels"]["agent"] for timer in timers] == ["a", "b"]
            health = await call("check_api_health")
            assert health["status"] == "ok" and health["clock"]["source"] == "os"

            for n in range(2):
                await call("timer_create", {"name": f"many {n}", "after": "1h", "team": team})
            first = await call("timers_cancel", {"team": team, "state": "scheduled"})
            assert (first["matches"], first["cancelled"], first["needs_confirmation"]) == (2, 0, True)
            assert '"2"' in first["next"]
            done = await call("timers_cancel", {"team": team, "state": "scheduled", "confirm": "2"})
            assert (done["matches"], done["cancelled"], done["note"]) == (2, 2, None)
            none = await call("timers_cancel", {"team": team, "state": "scheduled"})
            assert (none["matches"], none["needs_confirmation"]) == (0, False)
            assert call.called == set(NEW_TOOLS + OLD_TOOLS)

    run(test)


@TRANSPORTS
@EVERY_WAY
def test_an_error_is_a_tool_error_with_its_code(service, transport, revision):
    missing = "01900000-0000-7000-8000-000000000000"

    async def test():
        async with connected(service, transport, revision) as client:
            call = await Checked.of(client)
            for name, arguments, code in [
                ("timer_get", {"id": missing}, "timer_not_found"),
                ("timer_get", {"id": "../keys"}, "timer_not_found"),
                ("timer_wait", {"id": missing}, "timer_not_found"),
                ("timer_explain", {"id": missing}, "timer_not_found"),
                ("timer_get", {}, "invalid_arguments"),
                ("timer_get", {"id": missing, "nonsense": 1}, "invalid_arguments"),
                ("timer_create", {"name": "n"}, "invalid_schedule"),
                ("timer_create", {"name": "n", "after": "soon"}, "invalid_duration"),
                ("timer_create", {"name": "n", "at": "1999-01-01T00:00:00Z"}, "time_in_past"),
                ("timer_list", {"limit": 0}, "invalid_query"),
                ("timer_list", {"state": "nonsense"}, "invalid_query"),
                ("quick_wait", {"duration": []}, "invalid_arguments"),
                ("agent_coordination_session", {"session_name": "s", "agents": []}, "invalid_arguments"),
            ]:
                assert (await call.refused(name, arguments))["code"] == code, (name, arguments)
            with pytest.raises(MCPError, match="there is no tool"):
                await client.call_tool("no_such_tool", {})

    run(test)


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY])
def test_every_older_revision_over_the_bare_wire(service, revision):
    wire = Wire(service, revision=revision)
    hello = wire.initialize()
    assert (hello["protocolVersion"], hello["serverInfo"]["name"]) == (revision, "minoots-timer-system")
    assert [tool["name"] for tool in wire.ask("tools/list")[2]["result"]["tools"]] == NEW_TOOLS + OLD_TOOLS
    result = wire.ask("tools/call", name="quick_wait", arguments={"duration": "50ms"})[2]["result"]
    assert json.loads(result["content"][0]["text"])["state"] == "completed"


def test_without_a_service_each_call_says_what_to_do(own_service):
    own_service.stop()

    async def test():
        async with connected(own_service, "stdio", MODERN) as client:
            call = await Checked.of(client)
            problem = await call.refused("timer_list")
            assert problem["code"] == "service_unreachable" and "minoots serve" in problem["detail"]

    run(test)
    own_service.start()
