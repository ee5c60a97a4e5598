"""Reads a clock page as programs of the Python ChronoTick do: naively, in its layout, through SharedMemory.

Usage: old_reader.py NAME READS. Prints one line of JSON: what all the reads had in common.
"""

import json
import math
import struct
import sys
import time
from multiprocessing import shared_memory

# No "=": native alignment, as the old programs have it.
LAYOUT = struct.Struct("ddddddddfIIIIddIIf12s")
SEQUENCE = struct.Struct("I")
SEQUENCE_AT = 68

assert LAYOUT.size == 128
# Attaching registers the object with the resource tracker, which removes its name when this process ends: the trap.
page = shared_memory.SharedMemory(name=sys.argv[1])

sequences = set()
computed, published = [], []
backwards = implausible = 0
last = 0
for _ in range(int(sys.argv[2])):
    (before,) = SEQUENCE.unpack_from(page.buf, SEQUENCE_AT)
    fields = LAYOUT.unpack_from(page.buf, 0)
    (after,) = SEQUENCE.unpack_from(page.buf, SEQUENCE_AT)
    now = time.time()
    (corrected, system, offset, rate, sigma, rate_sigma, predicted, valid_until, confidence, sequence, flags, source,
     measurements, synced, uptime, corrections, _reserved, latency_ms, _unused) = fields
    plausible = (
        0 <= source <= 4
        and flags & 1
        and 0 <= confidence <= 1
        and all(map(math.isfinite, fields[:8]))
        and 0 < sigma < 1
        and 0 <= rate_sigma < 1e-2
        and abs(now - predicted) < 5
        and valid_until > now
        and abs(system - now) < 5
        and 0 < now - synced + offset < 60
        and measurements > 0
        and uptime > 0
        and corrections > 0
        and latency_ms >= 0
    )
    implausible += not plausible
    backwards += sequence < last
    last = sequence
    sequences.add(sequence)
    # The correction as the old client computes it.
    computed.append(offset + rate * (now - predicted))
    # What is read together: the naive read above may mix two pages, which only shows in the difference of two times.
    if before == sequence == after and sequence % 2 == 0:
        published.append(corrected - system)

print(json.dumps({
    "sequences": len(sequences),
    "implausible": implausible,
    "backwards": backwards,
    "computed": [min(computed), max(computed)],
    "published": [min(published), max(published)],
}))
page.close()
