"""Every tool and a subscription with the official TypeScript clients, both of their major versions, over both transports."""

import shutil
import subprocess
from pathlib import Path

import pytest
from serving import BINARY, LEGACY, MODERN, environment

HERE = Path(__file__).parent / "typescript"
INSTALL_S = 240
PATIENCE_S = 120


@pytest.fixture(scope="module")
def node():
    """The program, with the packages of package-lock.json in place."""
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        pytest.skip("the TypeScript clients: no node or npm here")
    # npm writes its own lock file when an installation is complete.
    installed, wanted = HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        command = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
        try:
            done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip("the TypeScript clients: npm ci did not end")
        if done.returncode:
            pytest.skip(f"the TypeScript clients: npm ci failed: {done.stderr.strip()[-200:]}")
    return program


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize(("script", "revision"), [("v1.mjs", LEGACY), ("v2.mjs", MODERN)])
def test_a_typescript_client(script, revision, transport, node, service):
    server = [BINARY, "mcp"] if transport == "stdio" else [service.url + "/mcp"]
    done = subprocess.run(
        [node, script, transport, *server],
        cwd=HERE, env=environment(MINOOTS_URL=service.url), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"ok {revision}\n"), done.stdout + done.stderr
