"""Real daemons for the tests, each with a page of its own."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import REPOSITORY

import chronotick
from chronotick.daemon import binary

HUNG_S = 60
FAST = "min_poll_s = 1\nmax_poll_s = 1\nburst_interval_ms = 100\nstate_file = 'none'\n"


def program():
    """The daemon's program: $CHRONOTICK_DAEMON, the package's, or one that cargo has built; a skip without any."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    built = [target / kind / "chronotick-daemon" for kind in ("debug", "release")]
    if not os.environ.get("CHRONOTICK_DAEMON"):
        newest = sorted((p for p in built if p.exists()), key=lambda p: p.stat().st_mtime)
        if newest:
            return str(newest[-1])
    try:
        return str(binary.find())
    except chronotick.ChronoTickError as e:
        pytest.skip(f"no chronotick-daemon here: {e}")


def eventually(what, condition):
    """Waits until the condition is met; what it returned."""
    deadline = time.monotonic() + HUNG_S
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.01)
    pytest.fail(f"in {HUNG_S} s there was no {what}")


def status(page):
    try:
        return chronotick.ChronoTickClient(str(page)).status()
    except chronotick.ChronoTickError as e:
        return e.code


class Daemon:
    """A running daemon that asks `server`; `page` is a path or a name, `options` are more of its command line."""

    def __init__(self, directory, server, page=None, options=()):
        self.page = str(page or Path(directory) / "page")
        config = Path(directory) / "chronotick.toml"
        config.write_text(FAST)
        command = [program(), "run", "--config", str(config), "--shm", self.page, "--server", server, *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait_synchronized(self):
        eventually("synchronized clock", lambda: status(self.page) == "synchronized")
        return self

    def stop(self):
        self.process.terminate()
        self.process.wait(HUNG_S)


def environment(page, **more):
    """What a program that is to use this page and this daemon runs with."""
    return {**os.environ, "CHRONOTICK_SHM": str(page), "CHRONOTICK_DAEMON": program(), **more}


def script(name):
    """The command line of one of the package's programs."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed beside {sys.executable}: `maturin develop` does that")
    return [found]
