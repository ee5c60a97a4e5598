#!/usr/bin/env python3
"""Writes pages.json: the readings that every language must make of the same page bytes.

The expected values are computed here from the document docs/formats/clock-page.md with Python's own struct and float
arithmetic, not by the Rust code under test. `make_pages.py --check` fails when the committed file differs.
"""

import json
import math
import struct
import sys
from fractions import Fraction
from pathlib import Path

OUT = Path(__file__).with_name("pages.json")
# The old Python writer's format, native alignment, to which version 2 adds what was padding.
V1 = "<ddddddddfIIIIxxxxddIIf12x"
V2 = "<ddddddddfIIII3sBddIffIq"
PHI = 15e-6
VALID, NTP, MODELS, WARM, HOLDOVER, DISRUPTED = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
SECOND = 1_000_000_000
I64_MIN, I64_MAX = -(2**63), 2**63 - 1
SOURCES = ["no_data", "ntp", "cpu_model", "gpu_model", "fusion"]

GOOD = dict(
    corrected=1760272800.126234, system=1760272800.125, offset=0.001234, rate=1.5e-6, offset_sigma=1e-5,
    rate_sigma=1e-9, prediction=1760272795.0, valid_until=1760272855.0, confidence=0.95, sequence=42,
    flags=VALID | NTP | MODELS | WARM, source=1, count=100, magic=b"CT\x02", anchor_clock=1, last_sync=1760272790.0,
    uptime=123.45, corrections=1000, max_error=0.002, latency=0.5, anchor_rate=0, anchor=77_000_000_000,
)


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def page_v2(**change):
    p = GOOD | change
    return struct.pack(
        V2, p["corrected"], p["system"], p["offset"], p["rate"], p["offset_sigma"], p["rate_sigma"], p["prediction"],
        p["valid_until"], p["confidence"], p["sequence"], p["flags"], p["source"], p["count"], p["magic"],
        p["anchor_clock"], p["last_sync"], p["uptime"], p["corrections"], p["max_error"], p["latency"],
        p["anchor_rate"], p["anchor"],
    )


def page_v1(**change):
    p = GOOD | dict(anchor_clock=0) | change
    return struct.pack(
        V1, p["corrected"], p["system"], p["offset"], p["rate"], p["offset_sigma"], p["rate_sigma"], p["prediction"],
        p["valid_until"], p["confidence"], p["sequence"], p["flags"], p["source"], p["count"], p["last_sync"],
        p["uptime"], p["corrections"], 0, p["latency"],
    )


def round_away(x):
    x = Fraction(x)
    return int(math.floor(abs(x) + Fraction(1, 2))) * (1 if x >= 0 else -1)


def clamp(n):
    return max(I64_MIN, min(I64_MAX, n))


def elapsed_ns(p, clocks, legacy):
    if legacy or p["anchor_clock"] & 15 == 0:
        whole = math.floor(p["prediction"])
        return clocks["realtime_ns"] - (whole * SECOND + round_away((p["prediction"] - whole) * 1e9))
    kind = p["anchor_clock"] & 15
    if kind == 1:
        return clocks["boottime_ns"] - p["anchor"]
    if kind == 2:
        raw = clocks["monotonic_raw_ns"] - p["anchor"]
        rate = struct.unpack("<i", struct.pack("<I", p["anchor_rate"]))[0]
        return raw + round_away(float(raw) * (rate / 2.0**42))
    shift = p["anchor_clock"] >> 4
    return ((clocks["counter"] - p["anchor"]) * p["anchor_rate"]) >> (32 - shift)


def expect(p, clocks, legacy=False):
    elapsed = elapsed_ns(p, clocks, legacy)
    whole = math.floor(p["prediction"])
    system = whole * SECOND + round_away((p["prediction"] - whole) * 1e9) + elapsed
    corrected = system + round_away(p["offset"] * 1e9) + round_away(float(elapsed) * p["rate"])
    drift = p["rate_sigma"] * (elapsed / 1e9)
    sigma = math.sqrt(p["offset_sigma"] * p["offset_sigma"] + drift * drift)
    flags = p["flags"]
    valid_for = round_away((p["valid_until"] - p["prediction"]) * 1e9)
    if flags & DISRUPTED:
        status = "disrupted"
    elif p["source"] == 0 or (not legacy and p["sequence"] == 0):
        status = "no_data"
    elif not flags & VALID or elapsed > valid_for:
        status = "expired"
    elif legacy:
        status = "legacy"
    elif flags & HOLDOVER:
        status = "holdover"
    elif not flags & WARM:
        status = "warming_up"
    else:
        status = "synchronized"
    earliest = latest = None
    max_error = f32(p["max_error"])
    if not legacy and flags & VALID and not flags & DISRUPTED and p["source"] != 0 and max_error > 0:
        growth = math.ceil(Fraction(float(abs(elapsed)) * (PHI + 3.0 * p["rate_sigma"])))
        error = math.ceil(Fraction(max_error * 1e9)) + growth
        earliest, latest = str(clamp(corrected - error)), str(clamp(corrected + error))
    return {
        "status": status,
        "source": SOURCES[p["source"]],
        "corrected_ns": str(corrected),
        "system_ns": str(system),
        "earliest_ns": earliest,
        "latest_ns": latest,
        "sigma_ns": str(round_away(sigma * 1e9)),
        "confidence": f32(p["confidence"]),
    }


def at(elapsed_s, **other):
    """Clock readings this long after GOOD's prediction time."""
    ns = round_away(Fraction(str(elapsed_s)) * SECOND)
    clocks = {"realtime_ns": 1760272795 * SECOND + ns, "boottime_ns": GOOD["anchor"] + ns, "monotonic_raw_ns": 0,
              "counter": None}
    return clocks | other


CASES = []


def case(name, page, clocks, expected):
    shown = {k: None if v is None else str(v) for k, v in clocks.items()}
    CASES.append({"name": name, "page": page.hex(), "clocks": shown} | expected)


def reads(name, clocks, **change):
    case(name, page_v2(**change), clocks, {"expect": expect(GOOD | change, clocks)})


def reads_v1(name, clocks, **change):
    case(name, page_v1(**change), clocks, {"expect": expect(GOOD | change, clocks, legacy=True)})


def refused(name, page, code, clocks=None):
    case(name, page, clocks or at(0), {"error": code})


reads("at the prediction time", at(0))
reads("thirty seconds on", at(30))
reads("a fraction of a nanosecond of drift", at("0.333333333"))
reads("before the prediction time", at(-3600))
reads("the last valid nanosecond", at(60))
reads("one nanosecond past valid_until", at("60.000000001"))
reads("a step of the system clock does not move it", at(10, realtime_ns=5))
reads("warming up", at(1), flags=VALID | NTP, offset_sigma=0.005, rate_sigma=1e-4)
reads("holdover", at(50), flags=VALID | NTP | WARM | HOLDOVER)
reads("holdover past valid_until", at(61), flags=VALID | NTP | WARM | HOLDOVER)
reads("disrupted", at(1), flags=NTP | WARM | DISRUPTED | 7 << 16, offset_sigma=1e9)
reads("disrupted outranks expired", at(1000), flags=VALID | NTP | WARM | DISRUPTED)
reads("withdrawn by a daemon that stopped", at(1), flags=NTP | WARM, offset_sigma=1e9)
reads("nothing measured yet", at(1), flags=0, source=0, offset=0.0, rate=0.0, offset_sigma=1e9, max_error=0.0)
reads("negative offset and rate", at(45), offset=-0.25, rate=-8.5721e-05, rate_sigma=3.3e-08, source=4)
reads("a bound that f32 cannot hold exactly", at(2), max_error=0.1)
reads("no bound published", at(2), max_error=0.0)
reads("every flag that carries a number", at(2), flags=VALID | NTP | WARM | 0x780 | 255 << 16 | 37 << 24)
reads("a sequence about to wrap", at(2), sequence=2**32 - 2)
reads("wide rate uncertainty", at(60), rate_sigma=1e-4, offset_sigma=0.014)
reads("anchored on MONOTONIC_RAW, which runs slow", at(1, monotonic_raw_ns=5_000_000_000), anchor_clock=2,
      anchor=1_000_000_000, anchor_rate=87_960_930)
reads("anchored on MONOTONIC_RAW, which runs fast", at(1, monotonic_raw_ns=5_000_000_000), anchor_clock=2,
      anchor=1_000_000_000, anchor_rate=2**32 - 87_960_930)
reads("anchored on a 2 GHz counter", at(1, counter=14_000_000_001), anchor_clock=3, anchor=10_000_000_000,
      anchor_rate=2**31)
reads("anchored on a 24 MHz counter", at(1, counter=24_000_000), anchor_clock=3 | 6 << 4, anchor=0,
      anchor_rate=2_796_202_667)
reads("not anchored", at(7), anchor_clock=0)
reads_v1("old page", at(5.125), source=4)
reads_v1("old page with an odd sequence, which means nothing there", at(5), sequence=43)
reads_v1("old page with a fractional prediction time", at(5), prediction=1760272795.5)
reads_v1("old page, three days old", at(259_200))
reads_v1("old page of a daemon that has measured nothing", at(0), offset=0.0, rate=0.0, offset_sigma=0.0,
         rate_sigma=0.0, confidence=0.0, sequence=0, flags=0, source=0, count=0, last_sync=0.0, uptime=0.0,
         corrections=0, latency=0.0)
refused("a write under way", page_v2(sequence=43), "writer_died")
refused("all zero", bytes(128), "writer_died")
refused("old page, zeroed but for its times", page_v1(sequence=0), "writer_died")
refused("old page without its uptime", page_v1(uptime=0.0), "writer_died")
refused("all ones", b"\xff" * 128, "page_corrupt")
refused("not a number", page_v2(offset=math.nan), "page_corrupt")
refused("infinite", page_v2(valid_until=math.inf), "page_corrupt")
refused("a time past 2262", page_v2(prediction=1e12), "page_corrupt")
refused("a rate of more than one", page_v2(rate=1.5), "page_corrupt")
refused("a negative uncertainty", page_v2(offset_sigma=-1e-6), "page_corrupt")
refused("a negative bound", page_v2(max_error=-0.001), "page_corrupt")
refused("a source that does not exist", page_v2(source=5), "page_corrupt")
refused("a prediction time that is no whole second", page_v2(prediction=1760272795.5), "page_corrupt")
refused("a version from the future", page_v2(magic=b"CT\x03"), "page_version")
refused("an anchor clock from the future", page_v2(anchor_clock=4), "page_version")
refused("a counter that cannot be read", page_v2(anchor_clock=3, anchor_rate=2**31), "anchor_unavailable")
refused("one byte short", page_v2()[:127], "wrong_size")
refused("one byte long", page_v2() + b"\0", "wrong_size")
refused("nothing at all", b"", "wrong_size")

text = json.dumps({"cases": CASES}, indent=1) + "\n"
if "--check" in sys.argv[1:]:
    if OUT.read_text() != text:
        sys.exit(f"{OUT} is stale: run python3 tests/conformance/make_pages.py")
else:
    OUT.write_text(text)
    print(f"{OUT}: {len(CASES)} cases")
