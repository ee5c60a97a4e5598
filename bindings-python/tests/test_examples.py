"""Every program in examples/python runs, against a real daemon and without one."""

import os
import re
import subprocess
import sys

import pytest
from daemons import environment
from support import REPOSITORY

EXAMPLES = REPOSITORY / "examples" / "python"


def run(name, *arguments, env, code=0):
    command = [sys.executable, EXAMPLES / name, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, (command, done.stdout, done.stderr)
    return done.stdout


def test_simple_client(daemon, tmp_path):
    said = run("simple_client.py", env=environment(daemon.page))
    assert "Corrected Time: " in said and "synchronized" in said and "Hard bound:     ±" in said
    assert "Start with: chronotick-daemon" in run(
        "simple_client.py", env={**os.environ, "CHRONOTICK_SHM": str(tmp_path / "absent")}, code=1
    )


def test_distributed_sync(daemon, capsys):
    said = run("distributed_sync.py", "--followers", "2", "--ahead", "0.2", env=environment(daemon.page))
    assert len(re.findall(r"^process \d: \+\d+\.\d us", said, re.MULTILINE)) == 3
    spread = re.search(r"^spread: \d+\.\d us.*$", said, re.MULTILINE)
    with capsys.disabled():
        print(f"\ndistributed_sync.py, three processes: {spread.group()}")


def test_monitoring_dashboard(daemon, tmp_path):
    env = environment(daemon.page)
    said = run("monitoring_dashboard.py", "--count", "5", "--interval", "0.01", "--alarm-ms", "1000", env=env)
    assert said.count("all is well") == 5 and "*" in said
    assert "ALARM: the time is known to" in run("monitoring_dashboard.py", "--count", "1", "--alarm-ms", "0", env=env, code=1)
    absent = {**os.environ, "CHRONOTICK_SHM": str(tmp_path / "absent")}
    assert "not running" in run("monitoring_dashboard.py", "--count", "1", env=absent, code=1)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_is_tested(path):
    # The agent's example has its test beside the tools for agents.
    assert path.name in ("simple_client.py", "distributed_sync.py", "monitoring_dashboard.py", "agent_integration.py")
