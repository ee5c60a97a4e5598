"""Measures readings of the clock page against Python's own clock calls, in paired batches on one core.

    python read.py PAGE [ENDING]

Prints one JSON line for each figure; ENDING is put behind their names. The package is the one that this interpreter imports:
`scripts/bench-read.sh python` makes one, in release, and the page. The old
Python client, which is not needed for this, is stood in for by what it did at each reading: copy the mapped bytes, unpack
all fields into a named tuple, then its arithmetic on floats.
"""

import json
import mmap
import os
import statistics
import struct
import subprocess
import sys
import time
from typing import NamedTuple

from chronotick import ChronoTickClient

BATCHES = 201
CALLS = 2000
INTERPRETERS = 9
# In place of an ending: only the pair with the old client, for the interpreter that asked.
OLD_CLIENT = "--old-client"
ENDING = sys.argv[2] if len(sys.argv) > 2 else ""


class OldRecord(NamedTuple):
    corrected_timestamp: float
    system_timestamp: float
    offset_correction: float
    drift_rate: float
    offset_uncertainty: float
    drift_uncertainty: float
    prediction_time: float
    valid_until: float
    confidence: float
    sequence_number: int
    flags: int
    source: int
    measurement_count: int
    last_ntp_sync: float
    daemon_uptime: float
    total_corrections: int
    reserved: int
    average_latency_ms: float


class OldTime(NamedTuple):
    corrected_timestamp: float
    system_timestamp: float
    uncertainty_seconds: float
    confidence: float
    source: str
    offset_correction: float
    drift_rate: float


class OldClient:
    """The old client's reading, without the client."""

    FORMAT = "ddddddddfIIIIddIIf12s"
    VALID = 1
    SOURCES = {0: "no_data", 1: "ntp", 2: "cpu_model", 3: "gpu_model", 4: "fusion"}

    def __init__(self, path):
        with open(path, "rb") as page:
            self.memory = memoryview(mmap.mmap(page.fileno(), 128, prot=mmap.PROT_READ))

    def record(self):
        return OldRecord(*struct.unpack(self.FORMAT, bytes(self.memory[:128]))[:18])

    def get_time(self):
        # Its protocol: read until two sequence numbers agree.
        for _ in range(3):
            before = struct.unpack("I", self.memory[68:72])[0]
            record = self.record()
            if record.sequence_number == before:
                break
        if not record.flags & self.VALID:
            raise RuntimeError("no valid data")
        system = time.time()
        elapsed = system - record.prediction_time
        uncertainty = (record.offset_uncertainty**2 + (record.drift_uncertainty * elapsed) ** 2) ** 0.5
        return OldTime(
            corrected_timestamp=system + record.offset_correction + record.drift_rate * elapsed,
            system_timestamp=system,
            uncertainty_seconds=uncertainty,
            confidence=record.confidence,
            source=self.SOURCES[record.source],
            offset_correction=record.offset_correction,
            drift_rate=record.drift_rate,
        )


def batch(call):
    """ns for each call. The loop is the same around subject and baseline, and is part of both."""
    calls = range(CALLS)
    start = time.perf_counter_ns()
    for _ in calls:
        call()
    return (time.perf_counter_ns() - start) / CALLS


def paired(subject, baseline, batches=BATCHES):
    """Medians of the subject, of the baseline, and of their ratio."""
    batch(subject)
    batch(baseline)
    pairs = [(batch(subject), batch(baseline)) for _ in range(batches)]
    return [statistics.median(column) for column in zip(*((s, b, s / b) for s, b in pairs), strict=True)]


def show(name, baseline_name, value, baseline_value, ratio):
    figure = {
        "name": name + ENDING,
        "value": round(value, 2),
        "unit": "ns",
        "baseline": baseline_name,
        "baseline_value": round(baseline_value, 2),
        "ratio": round(ratio, 4),
    }
    print(json.dumps(figure), flush=True)


def compare(name, subject, baseline_name, baseline):
    show(name, baseline_name, *paired(subject, baseline))


def against_the_old_client(path):
    """Medians over several interpreters: the old client's time differs by a factor of two from one process to the next,
    with where its many short-lived objects come to lie."""
    command = [sys.executable, __file__, path, OLD_CLIENT]
    runs = [json.loads(subprocess.check_output(command)) for _ in range(INTERPRETERS)]
    return [statistics.median(column) for column in zip(*runs, strict=True)]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: read.py PAGE [ENDING]")
    path = sys.argv[1]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    clock = ChronoTickClient(path)
    # Attach, so that the quick methods are in place.
    clock.now()
    if ENDING == OLD_CLIENT:
        print(json.dumps(paired(clock.get_time, OldClient(path).get_time, batches=31)))
        return
    compare("read.python.now_ns", clock.now_ns, "time.time_ns()", time.time_ns)
    compare("read.python.get_time", clock.get_time, "time.time()", time.time)
    compare("read.python.now", clock.now, "time.time()", time.time)
    show("read.python.old_client", "the old client's get_time()", *against_the_old_client(path))


if __name__ == "__main__":
    main()
