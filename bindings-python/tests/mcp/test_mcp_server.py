"""The MCP server against the official Python client: both transports, the old and the new revision of the protocol."""

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from support import DISRUPTED, NTP_READY, VALID, WARMUP_COMPLETE

pytest.importorskip("mcp.server.lowlevel", reason="requirements-mcp.txt is not installed")
import anyio  # noqa: E402
import mcp_types as types  # noqa: E402
from mcp import Client, StdioServerParameters  # noqa: E402
from mcp.client.subscriptions import ResourceUpdated  # noqa: E402
from mcp.shared.exceptions import MCPError  # noqa: E402
from serving import SERVER, arguments_for, check_result, environment, http_server, publish  # noqa: E402

from chronotick import ChronoTickClient, __version__  # noqa: E402
from chronotick.mcp import calls  # noqa: E402
from chronotick.mcp.catalog import TOOLS  # noqa: E402
from chronotick.mcp.server import ClockServer  # noqa: E402

DISRUPTED_PAGE_FLAGS = VALID | NTP_READY | WARMUP_COMPLETE | DISRUPTED
STATUS = "clock://status"
# How long anything may take before the test gives up; nothing here is measured.
PATIENCE_S = 30

REVISIONS = pytest.mark.parametrize(
    ("mode", "revision"), [("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")], ids=["2025-11-25", "2026-07-28"]
)
TRANSPORTS = pytest.mark.parametrize("transport", ["stdio", "http"])


@contextlib.contextmanager
def target(transport, page):
    """What a client connects to."""
    if transport == "http":
        with http_server(page) as url:
            yield url
    else:
        yield StdioServerParameters(command=SERVER[0], args=SERVER[1:], env=environment(page))


def run(test, *arguments):
    async def bounded():
        with anyio.fail_after(PATIENCE_S):
            await test(*arguments)

    anyio.run(bounded)


@TRANSPORTS
@REVISIONS
def test_a_client_lists_and_calls_everything(transport, mode, revision, page_file):
    async def test(server):
        reports = []

        async def progress(*report):
            reports.append(report)

        async with Client(server, mode=mode) as client:
            assert client.protocol_version == revision
            if mode == "legacy":
                assert (client.server_info.name, client.server_info.version) == ("ChronoTick Time Server", __version__)
                assert "corrected" in client.instructions and client.server_capabilities.resources.subscribe
            listed = (await client.list_tools()).tools
            assert [tool.name for tool in listed] == [tool.name for tool in TOOLS]
            for tool, ours in zip(listed, TOOLS, strict=True):
                assert tool.output_schema == ours.output_schema and tool.input_schema == ours.input_schema
                hints = tool.annotations.model_dump(by_alias=True, exclude_none=True)
                assert hints == ours.annotations and hints["readOnlyHint"] is (tool.name != "schedule_action")
            for name in arguments_for(0):
                now = (await client.call_tool("get_time", {})).structured_content["corrected_time"]
                result = await client.call_tool(name, arguments_for(now)[name], progress_callback=progress)
                check_result(name, result.structured_content)
                assert json.loads(result.content[0].text) == result.structured_content
                assert not result.is_error and "error" not in result.structured_content
            assert reports and all(total and at <= total and "s left" in message for at, total, message in reports)
            for tool in ("get_time_bounds", "wait_until_time"):
                for arguments in ({}, {"nonsense": 1}, {"duration_seconds": -1, "target_corrected_time": 0}):
                    result = await client.call_tool(tool, arguments)
                    check_result(tool, result.structured_content)
                    assert result.is_error and result.structured_content["code"] == "invalid_argument"
            with pytest.raises(MCPError, match="there is no tool"):
                await client.call_tool("no_such_tool", {})
            listed = (await client.list_resources()).resources
            assert [str(r.uri) for r in listed] == ["clock://now", STATUS]
            read = {uri: (await client.read_resource(uri)).contents[0] for uri in ("clock://now", STATUS)}
            assert {content.mime_type for content in read.values()} == {"application/json"}
            moment = json.loads(read["clock://now"].text)
            assert moment["earliest_ns"] < moment["corrected_ns"] < moment["latest_ns"]
            status = json.loads(read[STATUS].text)
            assert (status["status"], status["clock_status"]) == ("ready", "synchronized")
            with pytest.raises(MCPError, match="there is no resource"):
                await client.read_resource("clock://other")

    with target(transport, page_file.path) as server:
        run(test, server)


@pytest.mark.filterwarnings("ignore:resources/")
@TRANSPORTS
@REVISIONS
def test_a_subscriber_hears_of_a_status_change(transport, mode, revision, page_file):
    async def test(server):
        told = anyio.Event()

        async def on_message(message):
            if isinstance(message, types.ResourceUpdatedNotification) and str(message.params.uri) == STATUS:
                told.set()

        async with Client(server, mode=mode, message_handler=on_message) as client:
            if mode == "legacy":
                await client.session.subscribe_resource(STATUS)
                # Over HTTP a notification is lost until the client has opened its stream: so change it until one comes.
                for sequence in itertools.count(4, 4):
                    publish(page_file.path, sequence=sequence, flags=DISRUPTED_PAGE_FLAGS)
                    with anyio.move_on_after(2):
                        await told.wait()
                    if told.is_set():
                        break
                    publish(page_file.path, sequence=sequence + 2)
                    await anyio.sleep(1)
                await client.session.unsubscribe_resource(STATUS)
                with pytest.raises(MCPError, match="there is no resource"):
                    await client.session.subscribe_resource("clock://other")
            else:
                async with client.listen(resource_subscriptions=[STATUS]) as subscription:
                    publish(page_file.path, flags=DISRUPTED_PAGE_FLAGS)
                    async for event in subscription:
                        assert event == ResourceUpdated(uri=STATUS)
                        break
            status = json.loads((await client.read_resource(STATUS)).contents[0].text)
            assert status["clock_status"] == "disrupted"

    with target(transport, page_file.path) as server:
        run(test, server)


@pytest.mark.filterwarnings("ignore:resources/")
@REVISIONS
def test_a_subscriber_that_went_away_is_forgotten(mode, revision, page_file):
    async def test(url):
        async with Client(url, mode=mode) as gone:
            if mode == "legacy":
                await gone.session.subscribe_resource(STATUS)
            else:
                await gone.listen(resource_subscriptions=[STATUS]).__aenter__()
        async with Client(url, mode="2026-07-28") as client:
            async with client.listen(resource_subscriptions=[STATUS]) as subscription:
                for sequence, flags in ((4, DISRUPTED_PAGE_FLAGS), (6, VALID | NTP_READY)):
                    publish(page_file.path, sequence=sequence, flags=flags)
                    assert await anext(aiter(subscription)) == ResourceUpdated(uri=STATUS)

    with http_server(page_file.path) as url:
        run(test, url)


@REVISIONS
def test_a_cancelled_wait_ends_on_the_server(mode, revision, page_file, monkeypatch):
    async def test():
        ended = anyio.Event()
        in_steps = calls._wait

        async def observed(*arguments):
            try:
                return await in_steps(*arguments)
            finally:
                ended.set()

        monkeypatch.setattr(calls, "_wait", observed)
        clock = ChronoTickClient(page_file.path)
        async with Client(ClockServer(clock).server, mode=mode) as client:
            with anyio.CancelScope() as scope:

                async def cancel(*_):
                    scope.cancel()

                moment = clock.now_ns() / 1e9 + 3600
                await client.call_tool("wait_until_time", {"target_corrected_time": moment}, progress_callback=cancel)
            assert scope.cancelled_caught
            await ended.wait()
            assert not (await client.call_tool("get_time", {})).is_error

    run(test)


class Wire:
    """A server over stdio without any client library: JSON lines."""

    def __init__(self, page):
        self.process = subprocess.Popen(
            SERVER, env=environment(page), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.notifications = []

    def send(self, **message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def receive(self):
        return json.loads(self.process.stdout.readline())

    def ask(self, request_id, method, **params):
        self.send(id=request_id, method=method, params=params)
        while (answer := self.receive()).get("id") != request_id:
            self.notifications.append(answer)
        return answer

    def handshake(self, revision):
        client = {"name": "test", "version": "1"}
        answer = self.ask(1, "initialize", protocolVersion=revision, capabilities={}, clientInfo=client)
        self.send(method="notifications/initialized")
        return answer["result"]

    def close(self):
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0
        return [json.loads(line) for line in rest.splitlines()]


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_every_older_revision_over_the_bare_wire(revision, page_file):
    wire = Wire(page_file.path)
    hello = wire.handshake(revision)
    assert hello["protocolVersion"] == revision and hello["serverInfo"]["name"] == "ChronoTick Time Server"
    assert [tool["name"] for tool in wire.ask(2, "tools/list")["result"]["tools"]] == [tool.name for tool in TOOLS]
    result = wire.ask(3, "tools/call", name="get_time", arguments={})["result"]
    value = json.loads(result["content"][0]["text"])
    check_result("get_time", value)
    # Structured results came with 2025-06-18.
    if revision >= "2025-06-18":
        assert result["structuredContent"] == value
    wire.close()


def test_a_cancelled_request_is_not_answered(page_file):
    wire = Wire(page_file.path)
    wire.handshake("2025-11-25")
    moment = ChronoTickClient(page_file.path).now_ns() / 1e9 + 3600
    wire.send(
        id=7,
        method="tools/call",
        params={
            "name": "wait_until_time", "arguments": {"target_corrected_time": moment}, "_meta": {"progressToken": "t"},
        },
    )
    report = wire.receive()
    assert report["method"] == "notifications/progress" and report["params"]["progressToken"] == "t"
    wire.send(method="notifications/cancelled", params={"requestId": 7})
    assert "result" in wire.ask(8, "tools/call", name="get_daemon_status", arguments={})
    # Closing stdin ends the server at once, though the wait had an hour to go.
    assert all(message.get("id") != 7 for message in [*wire.notifications, *wire.close()])


def test_without_a_daemon_every_tool_answers(tmp_path):
    async def test(server):
        async with Client(server) as client:
            for name, arguments in arguments_for(2e9).items():
                result = await client.call_tool(name, arguments)
                check_result(name, result.structured_content)
                assert result.structured_content["daemon_running"] is False and not result.is_error
            moment = json.loads((await client.read_resource("clock://now")).contents[0].text)
            assert moment["daemon_running"] is False
            status = json.loads((await client.read_resource(STATUS)).contents[0].text)
            assert (status["status"], status["clock_status"]) == ("not_running", "not_running")

    with target("stdio", tmp_path / "none") as server:
        run(test, server)


def test_over_a_real_daemon(daemon):
    async def test(server):
        async with Client(server) as client:
            bounds = (await client.call_tool("get_time_bounds", {"duration_seconds": 0})).structured_content
            assert bounds["guaranteed"] is True and bounds["clock_status"] == "synchronized"
            now = (await client.call_tool("get_time", {})).structured_content
            # The daemon's time server is 20 ms ahead of this machine.
            assert abs(now["offset_correction"] - 0.02) <= bounds["max_error"] and now["source"] != "no_data"
            for name in arguments_for(0):
                now = (await client.call_tool("get_time", {})).structured_content["corrected_time"]
                result = await client.call_tool(name, arguments_for(now)[name])
                check_result(name, result.structured_content)
                assert "error" not in result.structured_content

    with target("stdio", daemon.page) as server:
        run(test, server)


def test_http_lets_in_only_requests_that_name_this_machine(page_file):
    with http_server(page_file.path) as url:
        for header in ("Host", "Origin"):
            request = urllib.request.Request(
                url, b"{}", {"Content-Type": "application/json", header: "http://evil.example"}, method="POST"
            )
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=PATIENCE_S)
            assert refused.value.code in (403, 421)
            refused.value.close()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--http", "nonsense"], 2, "is not HOST:PORT"),
        (["--http", "127.0.0.1:99999"], 2, "is not HOST:PORT"),
        (["--http", "0.0.0.0:0"], 2, "--allow-remote-without-auth"),
        (["--http", "no-such-host.invalid:1"], 1, "cannot listen on"),
        (["--help"], 0, "--debug"),
    ],
)
def test_the_command_line(arguments, code, words, tmp_path):
    done = subprocess.run(
        [*SERVER, *arguments], env=environment(tmp_path / "none"), capture_output=True, text=True, check=False
    )
    assert done.returncode == code and words in done.stdout + done.stderr


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [*SERVER, "--http", address], env=environment(tmp_path / "none"), capture_output=True, text=True, check=False
        )
    assert done.returncode == 1 and f"cannot listen on {address}" in done.stderr


def test_without_the_mcp_package_it_says_what_to_install():
    program = "import sys; sys.modules['mcp'] = None; import chronotick.mcp.stdio_server as s; sys.exit(s.main([]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "pip install 'chronotick[mcp]'" in done.stderr and "Traceback" not in done.stderr
