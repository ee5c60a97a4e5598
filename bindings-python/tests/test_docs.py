"""Every block of code in the Python documents runs, in order, against a real daemon; links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from daemons import environment
from support import REPOSITORY

DOCS = REPOSITORY / "docs" / "python"
# What is not run: output and pictures, and what installs the package itself.
SHOWN = ("text", "console", "")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    for path in sorted(DOCS.glob("*.md")):
        for number, (language, code) in enumerate(BLOCK.findall(path.read_text())):
            if language not in SHOWN:
                yield pytest.param(language, code, id=f"{path.stem}-{number}-{language}")


@pytest.mark.parametrize(("language", "code"), list(blocks()))
def test_block(language, code, daemon, ntp_server, tmp_path):
    env = environment(daemon.page, XDG_STATE_HOME=str(tmp_path), HOME=str(tmp_path))
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    starts, stops = ("chronotick-daemon start" in code, "chronotick-daemon stop" in code)
    if starts or stops:
        # Those have a page of their own, so that the daemon of the other blocks stays.
        env["CHRONOTICK_SHM"] = str(tmp_path / "page")
        code = code.replace("ntp.example.org", ntp_server.address)
    if stops and not starts:
        code = f"chronotick-daemon start --server {ntp_server.address}\n{code}"
    if starts and not stops:
        code += "chronotick-daemon stop\n"
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    command = {"python": [sys.executable, "-c", code], "sh": ["sh", "-euc", code]}[language]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout, "a sample that shows nothing teaches nothing"


def test_there_are_blocks_in_every_guide():
    seen = {param.id.split("-")[0] for param in blocks()}
    assert {"quickstart", "programs", "distributed", "monitoring", "performance"} <= seen


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links(path):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), link


def test_the_reference_is_fresh():
    if sys.version_info < (3, 11):
        pytest.skip("the reference is made with Python 3.11 or newer")
    script = REPOSITORY / "bindings-python" / "scripts" / "api_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
