"""Every code block of the documents on MCP and agents: Python runs, commands and configurations are read."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from support import REPOSITORY

pytest.importorskip("claude_agent_sdk", reason="requirements-mcp.txt is not installed")
from chronotick.mcp import stdio_server  # noqa: E402
from chronotick.mcp.catalog import TOOLS  # noqa: E402

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ("mcp.md", "agents.md")
BLOCKS = [
    (page, number, *block)
    for page in PAGES
    for number, block in enumerate(BLOCK.findall((REPOSITORY / "docs" / "python" / page).read_text()))
]


def is_known(command):
    """Fails unless the command is one that a reader can give."""
    words = shlex.split(command)
    if words[0] == "chronotick-stdio-server":
        try:
            stdio_server._parser().parse_args(words[1:])
        except SystemExit as e:
            assert e.code == 0, command
    else:
        assert words[:2] == ["pip", "install"] or words[:3] == ["claude", "mcp", "add"], command


@pytest.mark.parametrize(("page", "number", "language", "text"), BLOCKS, ids=lambda v: str(v)[:20].split("\n")[0])
def test_a_code_block(page, number, language, text, default_page):
    if language == "python":
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stdout, done.stderr
    elif language == "text":
        [server] = json.loads(text)["mcpServers"].values()
        is_known(shlex.join([server["command"], *server["args"]]))
    else:
        assert language == "console"
        for line in text.splitlines():
            is_known(line)


def test_the_table_names_every_argument_and_key():
    text = (REPOSITORY / "docs" / "python" / "mcp.md").read_text()
    words = set(re.findall(r"`(\w+)`", text))
    for tool in TOOLS:
        said = {tool.name, *tool.input_schema["properties"], *tool.output_schema["properties"]}
        assert said - words == set()
