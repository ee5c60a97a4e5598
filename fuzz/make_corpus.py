#!/usr/bin/env python3
"""Writes the corpus that the fuzz targets start from and the tests replay: conformance pages and edge cases."""

import json
import re
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = HERE.parent / "tests" / "conformance" / "pages.json"

# Offset and format of the fields that the edge cases change.
FIELDS = {
    "offset_correction": (16, "<d"), "drift_rate": (24, "<d"), "offset_uncertainty": (32, "<d"),
    "drift_uncertainty": (40, "<d"), "prediction_time": (48, "<d"), "valid_until": (56, "<d"), "confidence": (64, "<f"),
    "sequence": (68, "<I"), "flags": (72, "<I"), "source": (76, "<I"), "magic_and_anchor": (84, "<I"),
    "max_error": (108, "<f"), "anchor_rate": (116, "<I"), "anchor": (120, "<q"),
}
I64 = (-(2**63), -1, 0, 1, 2**53, 2**63 - 1)
DOUBLES = (0.0, -0.0, 5e-324, 1.5, -1.0, 9.2e9, 9.3e9, 1e308, float("inf"), float("-inf"), float("nan"))
DURATIONS = [
    "", " ", "0s", "2s", "250ms", "1h30m", "1.5h", ".5s", "5.", ".", "-3us", "+7d", "1 w 2 d", "5µs", "5μs", "7D",
    "106751d", "106752d", "9223372036854775807ns", "9223372036854775808ns", "-9223372036854775807ns", "1.2.3s", "5",
    "1h-3m", "0.000000000000001w", "0.9999999999999999999s", "99999999999999999999999999999999999999999d", "3 fortnights",
    "٣s", "1e3s", "1s ", "\t1s", "2s later",
]


def write(target, name, data):
    path = HERE / "corpus" / target / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def pages():
    cases = json.loads(PAGES.read_text())["cases"]
    whole = [case for case in cases if len(case["page"]) == 256]
    base = bytearray.fromhex(whole[0]["page"])
    for case in whole:
        clocks = case["clocks"]
        now = struct.pack("<qq", int(clocks["boottime_ns"] or 0), int(clocks["realtime_ns"] or 0))
        write("page", case["name"], bytes.fromhex(case["page"]) + now)
    for field, (offset, kind) in FIELDS.items():
        values = {"d": DOUBLES, "f": DOUBLES, "I": (0, 1, 0x7FFFFFFF, 0xFFFFFFFF), "q": I64}[kind[1]]
        for number, value in enumerate(values):
            page = bytearray(base)
            if kind == "<f" and value not in (float("inf"), float("-inf")) and abs(value) > 3e38:
                value = 3.4e38
            struct.pack_into(kind, page, offset, value)
            write("page", f"{field} {number}", bytes(page) + struct.pack("<qq", 10**9, 2**62))
    for anchor in (0x00, 0xF0, 0x01, 0xF1, 0x02, 0x03, 0xF3, 0x04):
        for now in I64:
            page = bytearray(base)
            page[87] = anchor
            struct.pack_into("<I", page, 116, 0xFFFFFFFF)
            write("page", f"anchor clock {anchor:02x} at {I64.index(now)}", bytes(page) + struct.pack("<qq", now, -now - 1))
    write("page", "short", bytes(base[:100]))


def packets():
    request = bytes([4 << 3 | 3]) + bytes(39) + bytes(range(8))
    answer = bytes([4 << 3 | 4, 1, 6, 0xEC]) + bytes(8) + b"GPS\0" + b"\xe9\x00\x00\x00\x80\x00\x00\x00" * 4
    kiss = bytes([0xC0 | 4 << 3 | 4, 0, 6, 0xEC]) + bytes(8) + b"RATE" + bytes(32)
    for name, packet in {
        "request": request, "answer": answer, "kiss": kiss, "short": answer[:47], "extended": answer + bytes(20),
        "ones": b"\xff" * 48, "zeros": bytes(48),
    }.items():
        for number, pivot in enumerate(I64):
            write("ntp_packet", f"{name} {number}", struct.pack("<q", pivot) + packet)
    write("ntp_packet", "empty", b"")


pages()
packets()
for number, text in enumerate(DURATIONS):
    write("duration", f"{number:02}", text.encode())
