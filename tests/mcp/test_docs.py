"""The samples of docs/mcp.md run, and its tables name every tool, argument, cause and verdict."""

import json
import re
import subprocess
import sys

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from serving import BINARY, LEGACY, MODERN, NEW_TOOLS, OLD_TOOLS, PATIENCE_S, ROOT, Checked, connected, environment, run

DOCUMENT = (ROOT / "docs" / "mcp.md").read_text()
ADDRESS = "http://127.0.0.1:7878"
KEY = "mnt_..."


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.S)


def test_the_configurations_connect(guarded):
    key = guarded.keys["one"]["secret"]

    async def lists_tools(transport):
        async with Client(transport, mode=MODERN) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == NEW_TOOLS + OLD_TOOLS
            assert not (await client.call_tool("timer_list", {})).is_error

    async def test():
        configurations = [json.loads(block) for block in blocks("json") if "mcpServers" in block]
        servers = [configuration["mcpServers"]["minoots"] for configuration in configurations]
        assert [sorted(server) for server in servers] == [["args", "command", "env"], ["headers", "type", "url"]]
        program, address = json.loads(json.dumps(servers).replace(ADDRESS, guarded.url).replace(KEY, key))
        assert program["command"] == "minoots"
        await lists_tools(
            StdioServerParameters(command=BINARY, args=program["args"], env=environment(**program["env"]))
        )
        async with httpx2.AsyncClient(headers=address["headers"], timeout=PATIENCE_S) as http:
            await lists_tools(streamable_http_client(address["url"], http_client=http))

    run(test)


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
def test_the_calls_succeed(service, revision):
    calls = [json.loads(block) for block in blocks("json") if "mcpServers" not in block]
    assert len(calls) >= 4

    async def test():
        async with connected(service, "http", revision) as client:
            call = await Checked.of(client)
            for sample in calls:
                await call(sample["name"], sample["arguments"])

    run(test)


def test_the_program_runs(service, tmp_path):
    (sample,) = blocks("python")
    program = tmp_path / "sample.py"
    program.write_text(sample.replace(ADDRESS, service.url))
    done = subprocess.run(
        [sys.executable, program], env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] in ("firing", "completed")


def test_the_commands_run(service):
    for sample in blocks("sh"):
        done = subprocess.run(
            ["sh", "-ec", sample.replace(ADDRESS, service.url)], capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
        assert json.loads(done.stdout)["resource"] == f"{service.url}/mcp"


def test_the_tables_name_every_tool_and_argument(service):
    rows = {}
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            rows[cells[0].strip("`")] = cells[1]

    async def test():
        async with connected(service, "http", MODERN) as client:
            tools = (await client.list_tools()).tools
            assert list(rows) == [tool.name for tool in tools]
            for tool in tools:
                named = set(re.findall(r"`(\w+)`", rows[tool.name]))
                needed = set(re.findall(r"\*\*`(\w+)`\*\*", rows[tool.name]))
                assert named == set(tool.input_schema.get("properties", {})), tool.name
                assert needed == set(tool.input_schema.get("required", [])), tool.name

    run(test)


def test_the_table_of_verdicts_is_whole():
    source = (ROOT / "daemon" / "service" / "src" / "mcp" / "explain.rs").read_text().split("#[cfg(test)]")[0]
    codes = set(re.findall(r'(?:cause|of_fire)\(\s*"(\w+)"', source)) | set(re.findall(r'\("(service_down\w*)"', source))
    codes |= {f"skipped_{reason}" for reason in re.findall(r'^\s+"(\w+)" => "', source, re.M)}
    assert len(codes) > 20
    missing = {code for code in codes if f"`{code}`" not in DOCUMENT}
    assert not missing
