"""The tools inside an agent's process: claude-agent-sdk, and the old module paths."""

import asyncio
import json
import os
import subprocess
import sys
import time

import pytest
from support import live_page

pytest.importorskip("claude_agent_sdk", reason="requirements-mcp.txt is not installed")
import chronotick_shm.tools.agents as old_agents  # noqa: E402
import chronotick_shm.tools.sdk_tools as old_tools  # noqa: E402
from mcp import Client  # noqa: E402
from serving import arguments_for, check_result, publish  # noqa: E402
from support import REPOSITORY  # noqa: E402

from chronotick import ChronoTickClient, InvalidArgumentError  # noqa: E402
from chronotick.mcp import create_chronotick_sdk_server, sdk_tool, tools  # noqa: E402
from chronotick.mcp.catalog import BY_NAME  # noqa: E402


@pytest.fixture
def shared_client(default_page):
    """The client that tools share, on the page of this test."""
    tools.default_client.cache_clear()
    old_tools._page = None
    yield tools.default_client()
    tools.default_client.cache_clear()


def test_the_in_process_server_has_every_tool(page_file):
    clock = ChronoTickClient(page_file.path)
    config = create_chronotick_sdk_server(client=clock)
    assert (config["type"], config["name"]) == ("sdk", "chronotick")

    async def test():
        async with Client(config["instance"]) as client:
            listed = (await client.list_tools()).tools
            assert [tool.name for tool in listed] == list(BY_NAME)
            for tool in listed:
                hints = tool.annotations.model_dump(by_alias=True, exclude_none=True)
                assert hints == {"title": BY_NAME[tool.name].title, **BY_NAME[tool.name].annotations}
            for name in BY_NAME:
                result = await client.call_tool(name, arguments_for(clock.now_ns() / 1e9)[name])
                assert not result.is_error
                check_result(name, json.loads(result.content[0].text))
            wrong = await client.call_tool("get_time_bounds", {"duration_seconds": -1})
            assert wrong.is_error

    asyncio.run(test())


def test_some_tools_only():
    config = create_chronotick_sdk_server("clock", "9", tools=["get_time"])

    async def names():
        async with Client(config["instance"]) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    assert asyncio.run(names()) == ["get_time"]
    with pytest.raises(InvalidArgumentError, match="no tool 'get_tim'; there are get_time,"):
        create_chronotick_sdk_server(tools=["get_tim"])


def test_a_handler_is_cancelled_with_its_task(page_file):
    clock = ChronoTickClient(page_file.path)
    wait = sdk_tool("wait_until_time", client=clock).handler({"target_corrected_time": clock.now_ns() / 1e9 + 3600})

    async def test():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait, 0.05)

    asyncio.run(test())


def test_the_old_tools(shared_client):
    for name in ("get_time", "get_daemon_status", "get_time_with_future_uncertainty"):
        tool = getattr(old_tools, name)
        answer = asyncio.run(tool.handler(arguments_for(0)[name]))
        assert tool.name == name and answer["is_error"] is False
        check_result(name, json.loads(answer["content"][0]["text"]))


def test_the_old_shared_memory(shared_client, page_file):
    page = old_tools.get_shared_memory()
    assert old_tools.get_shared_memory() is page
    with open(page_file.path, "rb") as file:
        assert bytes(page.buf) == file.read()
    assert (page.size, page.buf.readonly, page.name) == (128, True, os.path.basename(page_file.path))
    publish(page_file.path, offset_s=2.5)
    assert memoryview(page.buf).cast("d")[2] == 2.5
    # Another file in its place, as when a daemon begins anew.
    page_file(live_page(offset_s=7.5))
    assert memoryview(old_tools.get_shared_memory().buf).cast("d")[2] == 7.5
    page.close()


def test_the_old_data(shared_client):
    data = old_tools.read_chronotick_data()
    assert data.is_valid and abs(data.get_corrected_time_at(time.time()) - time.time()) < 1


def test_without_a_daemon_the_old_functions_raise(monkeypatch, tmp_path):
    monkeypatch.setenv("CHRONOTICK_SHM", str(tmp_path / "none"))
    tools.default_client.cache_clear()
    old_tools._page = None
    with pytest.raises(RuntimeError, match="^ChronoTick daemon not running"):
        old_tools.get_shared_memory()
    tools.default_client.cache_clear()


@pytest.mark.parametrize(
    ("make", "key", "names"),
    [
        (old_agents.create_chronotick_agent, "chronotick", list(BY_NAME)),
        (lambda: old_agents.create_chronotick_agent(server_key="clock"), "clock", list(BY_NAME)),
        (lambda: old_agents.create_chronotick_agent(["mcp__chronotick__get_time"]), "chronotick", ["get_time"]),
        (old_agents.create_minimal_agent, "time", ["get_time"]),
        (old_agents.create_monitoring_agent, "monitor", ["get_daemon_status"]),
        (old_agents.create_multi_service_agent, "chronotick", list(BY_NAME)),
    ],
)
def test_the_old_agents(make, key, names):
    options = make()
    assert list(options.mcp_servers) == [key] and options.mcp_servers[key]["type"] == "sdk"
    assert options.allowed_tools == [f"mcp__{key}__{name}" for name in names]


def test_an_agent_of_several_services():
    other = {"files": {"type": "stdio", "command": "files"}}
    options = old_agents.create_multi_service_agent(other_servers=other, other_tools=["mcp__files__read"])
    assert list(options.mcp_servers) == ["chronotick", "files"] and options.allowed_tools[-1] == "mcp__files__read"
    options = old_agents.create_multi_service_agent(False, other_servers=other, other_tools=["mcp__files__read"])
    assert "mcp__files__read" not in options.allowed_tools


def test_without_the_sdk_it_says_what_to_install():
    program = (
        "import sys; sys.modules['claude_agent_sdk'] = None\n"
        "from chronotick.mcp import create_chronotick_sdk_server\n"
        "try: create_chronotick_sdk_server()\n"
        "except ImportError as e: print(e)\n"
        "from chronotick_shm.tools.sdk_tools import get_shared_memory, read_chronotick_data\n"
        "try: from chronotick_shm.tools.sdk_tools import get_time\n"
        "except ImportError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'chronotick[agents]'") == 2
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        old_tools.other  # noqa: B018


def test_the_example_calls_the_tools(default_page):
    example = REPOSITORY / "examples" / "python" / "agent_integration.py"
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("get_time", "schedule_action", "synchronize_with_peers", "wait_until_time"):
        assert f"mcp__chronotick__{name}" in done.stdout
    assert "'error'" not in done.stdout
