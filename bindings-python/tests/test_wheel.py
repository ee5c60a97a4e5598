"""The wheel in an empty virtual environment: from nothing but Python to a corrected time.

The wheel is the one that $CHRONOTICK_WHEEL names, else the newest of `make wheel`.
"""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from support import REPOSITORY

# The first sample of the plan, as it stands there.
SAMPLE = """
from chronotick import ChronoTickClient

# Simple usage - no shared memory knowledge needed
client = ChronoTickClient()

# Get corrected time
time_info = client.get_time()
print(f"Corrected: {time_info.corrected_timestamp}")
print(f"Uncertainty: ±{time_info.uncertainty_seconds * 1000:.2f}ms")
print(f"Confidence: {time_info.confidence:.1%}")

# High-precision synchronization
target_time = time_info.corrected_timestamp + 5.0
client.wait_until(target_time, tolerance_ms=0.5)
execute_synchronized_action()
"""
ACTION = "def execute_synchronized_action(): print('acted')\n"


@pytest.fixture(scope="module")
def wheel():
    named = os.environ.get("CHRONOTICK_WHEEL")
    wheels = [Path(named)] if named else sorted((REPOSITORY / "build" / "wheels").glob("*.whl"), key=os.path.getmtime)
    if not wheels:
        pytest.skip("no wheel here: make wheel")
    return wheels[-1]


def test_what_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
        (daemon,) = (entry for entry in archive.infolist() if entry.filename == "chronotick/_bin/chronotick-daemon")
    assert wheel.name.split("-")[2:4] == ["cp310", "abi3"]
    assert daemon.external_attr >> 16 & 0o111 == 0o111
    for name in ("chronotick/py.typed", "chronotick/_native.pyi", "chronotick_shm/py.typed", "chronotick_shm/shm_config.py"):
        assert name in names
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert required and all("extra ==" in line for line in required), "the base install needs no other package"
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_from_python_alone_to_a_corrected_time(wheel, tmp_path, ntp_server, capsys):
    begin = time.monotonic()

    def run(*command, **options):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd=tmp_path, **options)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "CHRONOTICK_SHM": str(tmp_path / "page"),
        "LANG": "C.UTF-8",
    }
    programs = tmp_path / "venv" / "bin"
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    run(programs / "pip", "install", "--no-index", "--quiet", wheel)
    run(programs / "chronotick-daemon", "start", "--server", ntp_server.address)
    try:
        said = run(programs / "python", "-c", ACTION + SAMPLE)
    finally:
        run(programs / "chronotick-daemon", "stop")
    taken_s = time.monotonic() - begin
    assert said.startswith("Corrected: ") and said.endswith("acted\n")
    # The server is 20 ms ahead; the sample waits for five seconds.
    ahead_s = float(said.split()[1]) - time.time()
    assert -60 < ahead_s < 0
    with capsys.disabled():
        print(f"\nfrom an empty directory to the end of the sample: {taken_s:.1f} s, of which 5 s are its wait")
