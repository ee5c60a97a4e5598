"""What the tests of the MCP server share: pages with one thing changed, arguments for each tool, running servers."""

import contextlib
import os
import struct
import subprocess
import sys

import jsonschema
from support import live_page

from chronotick.mcp.catalog import BY_NAME

FIELD_AT = {"drift_rate": 24, "offset_uncertainty": 32, "drift_uncertainty": 40}


def page_with(**changes):
    """A live page with these f64 fields; what `live_page` takes, it takes too."""
    fields = {name: changes.pop(name) for name in list(changes) if name in FIELD_AT}
    page = bytearray(live_page(**changes))
    for name, value in fields.items():
        struct.pack_into("<d", page, FIELD_AT[name], value)
    return bytes(page)


def publish(path, **changes):
    """Another page in place of the one there, in the same file, as a daemon publishes it."""
    page = live_page(**{"sequence": 4, **changes})
    fd = os.open(path, os.O_WRONLY)
    try:
        assert os.pwrite(fd, page, 0) == len(page)
    finally:
        os.close(fd)


def arguments_for(now_s):
    """Arguments with which each tool succeeds, at this corrected time."""
    peer = {"peer_id": "b", "corrected_time": now_s, "uncertainty": 30.0, "vector_clock": {"b": 1}}
    return {
        "get_time": {},
        "get_daemon_status": {},
        "get_time_with_future_uncertainty": {"future_seconds": 300},
        "schedule_action": {"target_corrected_time": now_s + 3600, "action_id": "backup"},
        "synchronize_with_peers": {"peer_times": [peer]},
        "get_time_bounds": {"duration_seconds": 60},
        "wait_until_time": {"target_corrected_time": now_s + 1, "tolerance_ms": 50},
    }


def check_result(name, result):
    """Fails unless the result is what the tool's output schema says."""
    jsonschema.Draft202012Validator(BY_NAME[name].output_schema).validate(result)


def environment(page, **more):
    """The environment of a server that reads this page."""
    kept = {key: value for key, value in os.environ.items() if key != "MINOOTS_URL"}
    return {**kept, "CHRONOTICK_SHM": str(page), **more}


SERVER = [sys.executable, "-m", "chronotick.mcp.stdio_server"]


@contextlib.contextmanager
def http_server(page):
    """A server over HTTP on a free port; the value is its URL."""
    command = [*SERVER, "--http", "127.0.0.1:0"]
    process = subprocess.Popen(command, env=environment(page), stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline().strip()
        assert line.startswith("listening on http://127.0.0.1:"), line
        yield line.removeprefix("listening on ")
    finally:
        process.terminate()
        assert process.wait(timeout=20) in (0, -15)
        process.stdout.close()
