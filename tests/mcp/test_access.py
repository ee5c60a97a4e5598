"""Who is let in at `/mcp`, and what of whom they see."""

import json
import threading
import urllib.request

import pytest
from mcp.shared.exceptions import MCPError
from serving import LEGACY, MODERN, PATIENCE_S, Checked, Wire, connected, run

EVERY_WAY = pytest.mark.parametrize("revision", [LEGACY, MODERN])
TRANSPORTS = pytest.mark.parametrize("transport", ["stdio", "http"])


@pytest.mark.parametrize("key", [None, "mnt_" + "f" * 64, "a.b.c"], ids=["no", "a wrong", "no good"])
def test_without_a_good_credential_the_answer_says_where_to_get_one(guarded, key):
    wire = Wire(guarded)
    wire.key = key
    status, headers, text = wire.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    where = f"{guarded.url}/.well-known/oauth-protected-resource/mcp"
    assert status == 401 and json.loads(text)["code"] == "unauthenticated"
    assert headers["www-authenticate"] == f'Bearer resource_metadata="{where}"'
    with urllib.request.urlopen(where, timeout=PATIENCE_S) as answer:
        document = json.load(answer)
    assert document["resource"] == f"{guarded.url}/mcp" and document["bearer_methods_supported"] == ["header"]
    assert document["authorization_servers"] == ["https://id.example"]
    assert {"timers.create", "timers.read", "events.watch"} <= set(document["scopes_supported"])


def test_what_there_is_none_of_is_left_out_of_the_metadata(service):
    _, _, document = service.rest("GET", "/.well-known/oauth-protected-resource")
    assert "authorization_servers" not in document and "scopes_supported" not in document
    headers = {"x-forwarded-proto": "https", "host": "localhost:9"}
    _, _, document = service.rest("GET", "/.well-known/oauth-protected-resource", headers=headers)
    assert document["resource"] == "https://localhost:9/mcp"


@pytest.mark.filterwarnings("ignore:resources/")
@TRANSPORTS
@EVERY_WAY
def test_nothing_of_another_tenant_is_seen(guarded, transport, revision):
    one, two = (guarded.keys[tenant]["secret"] for tenant in ("one", "two"))
    theirs = guarded.create(key=two, name="theirs", every="1h", labels={"team": "shared"})
    missing = "01900000-0000-7000-8000-000000000000"

    async def test():
        async with connected(guarded, transport, revision, key=one) as client:
            call = await Checked.of(client)
            mine = await call("timer_create", {"name": "mine", "after": "1h", "team": "shared"})
            listed = (await call("timer_list", {"team": "shared", "state": "scheduled", "limit": 1000}))["timers"]
            assert mine["id"] in {timer["id"] for timer in listed} and {timer["name"] for timer in listed} == {"mine"}
            for name, field in [
                ("timer_get", "id"), ("timer_wait", "id"), ("timer_history", "id"), ("timer_explain", "id"),
                ("timer_cancel", "id"), ("timer_pause", "id"), ("timer_resume", "id"), ("timer_fire", "id"),
                ("get_timer", "timer_id"), ("delete_timer", "timer_id"),
            ]:
                foreign = await call.refused(name, {field: theirs["id"]})
                nothing = await call.refused(name, {field: missing})
                assert foreign["code"] == "timer_not_found"
                assert json.dumps(foreign).replace(theirs["id"], missing) == json.dumps(nothing)
            moved = await call.refused("timer_reschedule", {"id": theirs["id"], "after": "1s"})
            assert moved["code"] == "timer_not_found"
            found = await call("timers_cancel", {"team": "shared"})
            assert found["matches"] == len(listed)
            done = await call("timers_cancel", {"team": "shared", "confirm": str(found["matches"])})
            assert done["cancelled"] == len(listed)
            resources = [r.name for r in (await client.list_resources()).resources]
            assert "theirs" not in resources
            with pytest.raises(MCPError, match="no such timer|no timer"):
                await client.read_resource(f"timer://{theirs['id']}")
            if revision == LEGACY:
                with pytest.raises(MCPError, match="no such timer|no timer"):
                    await client.session.subscribe_resource(f"timer://{theirs['id']}")

    run(test)
    left = guarded.rest("GET", f"/v1/timers/{theirs['id']}", key=two)[2]
    assert (left["state"], left["fires"]) == ("scheduled", 0)


def test_a_subscription_to_what_is_of_another_tenant_tells_nothing(guarded):
    one, two = (guarded.keys[tenant]["secret"] for tenant in ("one", "two"))
    theirs, mine = guarded.create(key=two, every="1h"), guarded.create(key=one, every="1h")

    async def test():
        async with connected(guarded, "http", MODERN, key=one) as client:
            uris = [f"timer://{timer['id']}" for timer in (theirs, mine)]
            async with client.listen(resource_subscriptions=uris) as subscription:
                guarded.fire(theirs, key=two)
                guarded.fire(mine, key=one)
                async for event in subscription:
                    assert str(event.uri) == uris[1]
                    timer = json.loads((await client.read_resource(uris[1])).contents[0].text)
                    if timer["fires"] == 1:
                        break

    run(test)


def test_a_session_is_of_the_caller_that_opened_it(guarded):
    one, two = (guarded.keys[tenant]["secret"] for tenant in ("one", "two"))
    mine = Wire(guarded, key=one, revision=LEGACY)
    mine.initialize()
    other = Wire(guarded, key=two, revision=LEGACY)
    ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    answers = []
    for session in (mine.session, "01900000-0000-7000-8000-000000000000"):
        other.session = session
        status, _, text = other.post(ask)
        assert status == 404
        answers.append(text)
        for method in ("GET", "DELETE"):
            request = urllib.request.Request(guarded.url + "/mcp", method=method)
            request.add_header("x-api-key", two)
            request.add_header("mcp-session-id", session)
            request.add_header("accept", "text/event-stream")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=PATIENCE_S)
            assert refused.value.code == 404
            answers.append(refused.value.read().decode())
            refused.value.close()
    assert len(set(answers)) == 1, "a session of another is answered as one that is not there"
    # Another key of the same tenant is another caller.
    other.key, other.session = guarded.new_key("one")["secret"], mine.session
    assert other.post(ask)[0] == 404
    assert mine.post(ask)[0] == 200
    request = urllib.request.Request(guarded.url + "/mcp", method="DELETE")
    request.add_header("x-api-key", one)
    request.add_header("mcp-session-id", mine.session)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.status == 204
    assert mine.post(ask)[0] == 404


def test_a_caller_has_so_many_sessions_and_the_oldest_make_room(guarded):
    key = guarded.new_key("many")["secret"]
    sessions = [Wire(guarded, key=key, revision=LEGACY) for _ in range(65)]
    for wire in sessions:
        wire.initialize()
    ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    assert [wire.post(ask)[0] for wire in sessions] == [404] + [200] * 64


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
def test_the_streams_of_a_key_end_when_it_is_revoked(guarded, revision):
    key = guarded.new_key("leaving")
    timer = guarded.create(key=key["secret"], every="1h")
    wire = Wire(guarded, key=key["secret"], revision=revision)
    if revision == LEGACY:
        wire.initialize()
        wire.ask("resources/subscribe", uri=f"timer://{timer['id']}")
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "wire", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    notifications = {"resourceSubscriptions": [f"timer://{timer['id']}"]}
    listen = {
        "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen",
        "params": {"notifications": notifications, "_meta": meta},
    }
    request = urllib.request.Request(guarded.url + "/mcp", method="GET" if revision == LEGACY else "POST")
    request.add_header("authorization", f"Bearer {key['secret']}")
    request.add_header("accept", "application/json, text/event-stream")
    request.add_header("mcp-protocol-version", revision)
    if revision == LEGACY:
        request.add_header("mcp-session-id", wire.session)
    else:
        request.add_header("content-type", "application/json")
        request.add_header("mcp-method", "subscriptions/listen")
        request.data = json.dumps(listen).encode()
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as stream:
        lines, opened = [], threading.Event()

        def read():
            for line in stream:
                lines.append(line.decode())
                if "resources/updated" in lines[-1]:
                    opened.set()

        reader = threading.Thread(target=read)
        reader.start()
        guarded.fire(timer, key=key["secret"])
        assert opened.wait(PATIENCE_S), lines
        status, _, _ = guarded.rest("DELETE", f"/v1/keys/{key['id']}", headers={"x-tenant-id": "leaving"})
        assert status in (200, 204)
        told = len(lines)
        guarded.rest("POST", f"/v1/timers/{timer['id']}/fire", {}, headers={"x-tenant-id": "leaving"})
        reader.join(PATIENCE_S)
        assert not reader.is_alive(), "the stream has not ended"
        assert "resources/updated" not in "".join(lines[told:])
    assert wire.post({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}})[0] == 401


def test_a_host_is_looked_at_as_on_every_other_path(service, guarded):
    message = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}}
    for headers, status in [
        ({"host": "localhost:1"}, 200), ({"host": "evil.example"}, 403),
        ({"origin": "http://localhost:3000"}, 200), ({"origin": "https://evil.example"}, 403),
    ]:
        wire = Wire(service, revision=LEGACY)
        wire.initialize()
        assert wire.post(message, headers)[0] == status, headers
    # Where everybody says who they are, the service may have any name.
    wire = Wire(guarded, key=guarded.keys["one"]["secret"], revision=LEGACY)
    wire.initialize()
    assert wire.post(message, {"host": "timers.example"})[0] == 200
