"""What the tests share: pages of both formats made with struct, and where the repository's data is."""

import json
import os
import struct
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CONFORMANCE = REPOSITORY / "tests" / "conformance" / "pages.json"
# Pages that the old Python code wrote, beside the repository (or the directory of its worktrees) where they are at all.
OLD_PAGES = next(
    (p for up in REPOSITORY.parents if (p := up / "shared" / "data" / "clock-pages").is_dir()),
    REPOSITORY.parent / "shared" / "data" / "clock-pages",
)

# The format that the old Python client unpacks, in native alignment, with its names for the 18 fields.
OLD_FORMAT = struct.Struct("ddddddddfIIIIddIIf12s")
OLD_FIELDS = (
    "corrected_timestamp system_timestamp offset_correction drift_rate offset_uncertainty drift_uncertainty "
    "prediction_time valid_until confidence sequence_number flags source measurement_count last_ntp_sync "
    "daemon_uptime total_corrections reserved average_latency_ms"
).split()
# Version 2, written down a second time from docs/formats/clock-page.md.
V2_FORMAT = struct.Struct("<8dfIIII3sBddIffIq")

VALID, NTP_READY, MODELS_READY, WARMUP_COMPLETE, HOLDOVER, DISRUPTED = 1, 2, 4, 8, 16, 32
SECOND_NS = 1_000_000_000
PAIRING_NS = 100_000


def conformance_cases():
    return json.loads(CONFORMANCE.read_text())["cases"]


def realtime_boottime_pair():
    """Both clocks at the same moment, to within PAIRING_NS."""
    while True:
        before_ns = time.time_ns()
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        # Another thread may have run in between: then the pair is taken again.
        if time.time_ns() - before_ns < PAIRING_NS:
            return before_ns, boot_ns


def live_page(offset_s=0.0, flags=VALID | NTP_READY | WARMUP_COMPLETE, sequence=2, valid_for_s=60.0):
    """A page as a daemon would have published it a moment ago, anchored on CLOCK_BOOTTIME."""
    real_ns, boot_ns = realtime_boottime_pair()
    second, fraction_ns = divmod(real_ns, SECOND_NS)
    now_s = real_ns / SECOND_NS
    return V2_FORMAT.pack(
        *(now_s + offset_s, now_s, offset_s, 0.0, 1e-5, 1e-9, float(second), second + valid_for_s),
        *(0.95, sequence, flags, 1, 100, b"CT\x02", 1, now_s, 12.5, 1000, 0.001, 0.5, 0),
        boot_ns - fraction_ns,
    )


def old_page(prediction_time, offset_s=0.25, flags=15, source=4, sequence=43):
    """A page as the old Python daemon packs it."""
    return OLD_FORMAT.pack(
        *(prediction_time + offset_s, prediction_time, offset_s, 2e-6, 1e-5, 1e-9),
        *(prediction_time, prediction_time + 60.0, 0.95, sequence, flags, source, 100),
        *(prediction_time - 5.0, 123.45, 1000, 0, 0.5, bytes(12)),
    )


def old_reading(page):
    """What the old Python client reads from these bytes."""
    return dict(zip(OLD_FIELDS, OLD_FORMAT.unpack(page)[:18], strict=True))


def in_child(function):
    """What the function returns in a forked child, as text."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write_end, str(function()).encode())
        except BaseException as e:
            os.write(write_end, f"{type(e).__name__}: {e}".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as said:
        text = said.read().decode()
    os.waitpid(child, 0)
    return text
