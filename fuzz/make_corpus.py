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


def record(kind, body=b"", critical=True):
    return struct.pack(">HH", kind | (0x8000 if critical else 0), len(body)) + body


def field(kind, body):
    padded = body + bytes(max(-len(body) % 4, 12 - len(body)))
    return struct.pack(">HH", kind, 4 + len(padded)) + padded


def nts():
    start, end = record(1, b"\0\0") + record(4, b"\0\x0f"), record(0)
    cookies = b"".join(record(5, bytes([n]) * 100, False) for n in range(10))
    for name, data in {
        "whole": start + cookies + end, "no end": start + cookies, "no cookie": start + end, "empty": b"", "end": end,
        "error": record(2, b"\0\x01") + end, "warning": record(3, b"\0\x01") + end, "long error": record(2, b"\0\0\x01") + end,
        "unknown": start + record(77, b"x", False) + cookies + end, "critical": start + record(77, b"x") + cookies + end,
        "server": start + record(6, b"ntp.example") + record(7, b"\x10\x92") + cookies + end,
        "bad server": start + record(6, b"ntp\n") + cookies + end, "bad port": start + record(7, b"\0") + cookies + end,
        "twice": start + start + cookies + end, "other protocol": record(1, b"\x80\0") + record(4, b"\0\x0f") + end,
        "other algorithm": record(1, b"\0\0") + record(4, b"\0\x11") + cookies + end, "cut": (start + cookies + end)[:-6],
        "empty cookie": start + record(5, b"", False) + end, "long cookie": start + record(5, bytes(2000), False) + end,
    }.items():
        write("nts_record", name, data)
    nonce, unique = bytes.fromhex("0123456789abcdef"), field(0x0104, b"\x03" * 32)
    answer = bytes([4 << 3 | 4, 1, 6, 0xEC]) + bytes(8) + b"GPS\0" + bytes(8) + nonce + b"\xe9\0\0\0\x80\0\0\0" * 2
    nak = bytes([0xC0 | 4 << 3 | 4, 0]) + bytes(10) + b"NTSN" + bytes(8) + nonce + bytes(16)
    seal = struct.pack(">HH", 16, 16) + b"\x04" * 16 + bytes(16)
    cookie = field(0x0204, b"\x07" * 100)
    for name, data in {
        "empty": b"", "header": answer, "unique": answer + unique, "sealed": answer + unique + field(0x0404, seal),
        "seal first": answer + field(0x0404, seal) + unique, "nak": nak + unique, "bare nak": nak,
        "cookie": cookie, "cookies": cookie * 8, "placeholder": field(0x0304, bytes(100)), "short cookie": b"\x02\x04\0\x08abcd",
        "no body": b"\x02\x04\0\x04", "zero length": b"\x02\x04\0\0", "odd length": b"\x02\x04\0\x07abc", "overlong": b"\x02\x04\xff\xfc",
        "long nonce": unique + field(0x0404, struct.pack(">HH", 0xFFFF, 16) + bytes(32)),
        "long seal": unique + field(0x0404, struct.pack(">HH", 16, 0xFFFF) + bytes(32)),
        "no nonce": unique + field(0x0404, struct.pack(">HH", 0, 16) + bytes(32)),
        "other unique": field(0x0104, b"\x09" * 32) + field(0x0404, seal), "mac": unique + bytes(20),
    }.items():
        write("nts_packet", name, data)


def exchanges():
    moments = struct.pack("<qqq", 10**12, 10**12 + 2 * 10**7, 1_800_000_000 * 10**9)
    seconds = 1_800_000_000 + 2_208_988_800
    times = struct.pack(">IIIIII", seconds - 60, 0, 7, 7, seconds, 0) + struct.pack(">II", seconds, 2**22)
    answer = bytes([4 << 3 | 4, 2, 6, 0xEC]) + bytes.fromhex("0000 0100 0000 0200 7f000001".replace(" ", "")) + times
    request = bytes([4 << 3 | 3]) + bytes(39) + bytes(range(8))
    tracking = bytes([6, 2, 0, 0]) + struct.pack(">HHHHHHI", 33, 5, 0, 0, 0, 0, 9) + bytes(8) + bytes([192, 0, 2, 1]) + bytes(20)
    tracking += struct.pack(">HH", 3, 0) + bytes(12) + bytes.fromhex("f5000001") * 9
    for name, data in {
        "answer": answer, "kiss": bytes([0xE4, 0]) + answer[2:12] + b"DENY" + answer[16:], "request": request,
        "old request": bytes([3 << 3 | 3]) + request[1:], "long request": request + bytes(100), "control": bytes([4 << 3 | 6]) + bytes(100),
        "tracking": tracking, "refused": tracking[:8] + b"\0\x02" + tracking[10:], "short tracking": tracking[:60],
        "far": answer[:4] + b"\xff" * 8 + answer[12:], "no stamps": answer[:32] + bytes(16), "short": answer[:47], "empty": b"",
    }.items():
        write("ntp_exchange", name, moments + data)
        write("ntp_exchange", f"{name} at odd times", struct.pack("<qqq", -(2**63), 2**63 - 1, -1) + data)


pages()
packets()
nts()
exchanges()
for number, text in enumerate(DURATIONS):
    write("duration", f"{number:02}", text.encode())
