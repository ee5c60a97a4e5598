"""Programs of the first ChronoTick beside ours, both ways: multiprocessing.shared_memory and the struct format."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from daemons import Daemon, eventually
from support import REPOSITORY

from chronotick import ChronoTickClient, ChronoTickError
from chronotick.shm.config import read_data_with_retry

LEGACY = REPOSITORY / "tests" / "e2e" / "legacy"
SHM = Path("/dev/shm")

# As an old daemon: makes the object, writes its layout over and over, says so, and ends without unlinking.
OLD_DAEMON = """
import struct, sys, time
from multiprocessing import shared_memory
page = shared_memory.SharedMemory(name=sys.argv[1], create=True, size=128)
now = time.time()
for n in range(1, 1000):
    struct.pack_into("ddddddddfIIIIddIIf12s", page.buf, 0, now + 0.25, now, 0.25, 0.0, 1e-5, 1e-9, float(int(now)), now + 60, 0.95,
                     n, 15, 4, 100, now - 5, 123.0, n, 0, 0.5, bytes(12))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def name():
    """The name of an object in /dev/shm that no other test uses."""
    if not SHM.is_dir():
        pytest.skip("no /dev/shm here")
    name = f"chronotick_test_{os.getpid()}_{threading.get_native_id()}"
    yield name
    for path in SHM.glob(name + "*"):
        path.unlink()


def test_an_old_reader_leaves_the_page_of_our_daemon(name, tmp_path, ntp_server):
    daemon = Daemon(tmp_path, ntp_server.address, page=name).wait_synchronized()
    try:
        clock = ChronoTickClient(name)
        before = clock.now()
        inode = os.stat(SHM / name).st_ino
        done = subprocess.run(
            [sys.executable, LEGACY / "old_reader.py", name, "20000"], capture_output=True, text=True, check=True
        )
        seen = json.loads(done.stdout)
        assert seen["implausible"] == seen["backwards"] == 0, seen
        # The server is 20 ms ahead.
        assert all(0.015 < offset_s < 0.025 for offset_s in seen["computed"]), seen
        # Before Python 3.13 its resource tracker has removed the name by now; the daemon restores it, of the same object.
        eventually("page under its name", lambda: (SHM / name).exists())
        assert os.stat(SHM / name).st_ino == inode
        assert clock.now().corrected_ns > before.corrected_ns
        assert ChronoTickClient(name).status() == clock.status() == "synchronized"
    finally:
        daemon.stop()


def test_our_reader_on_the_page_of_an_old_daemon(name):
    old = subprocess.Popen([sys.executable, "-c", OLD_DAEMON, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert old.stdout.readline() == "ready\n"
        clock = ChronoTickClient(name)
        reading = clock.now()
        assert (reading.status, reading.source, reading.max_error_ns) == ("legacy", "fusion", None)
        assert reading.corrected_ns - reading.system_ns == 250_000_000
        assert clock.is_daemon_ready() and clock.get_daemon_info()["daemon_uptime"] == 123.0
        assert abs(clock.get_time().offset_correction - 0.25) < 1e-9
        # A reader of ours that ends takes nothing away.
        code = f"import chronotick; chronotick.ChronoTickClient({name!r}).now()"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert (SHM / name).exists()
    finally:
        old.communicate()
    # What was read last is good until its valid_until, wherever the name went.
    assert clock.status() == "legacy"


def test_our_old_style_reading_of_a_page_under_full_rate(tmp_path):
    import mmap

    path = tmp_path / "page"
    writer = subprocess.Popen([sys.executable, LEGACY / "old_writer.py", path], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "ready\n"
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 128, prot=mmap.PROT_READ) as page:
            whole = 0
            for _ in range(3_000):
                try:
                    data = read_data_with_retry(page)
                except ChronoTickError:
                    continue
                n = data.sequence_number
                # Every field is computed from the number of the record.
                assert (data.measurement_count, data.total_corrections) == (n, n)
                assert (data.offset_correction, data.confidence) == (n / 1024, (n % 256) / 256)
                assert (int(data.source), data.flags) == (1 + n % 4, 15)
                assert data.average_latency_ms in (float(n % 1000), 0.0)
                whole += 1
        assert whole > 0
    finally:
        writer.kill()
        writer.wait()
