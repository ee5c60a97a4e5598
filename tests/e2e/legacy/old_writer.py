"""Stands in for the Python ChronoTick's daemon: writes its layout at full rate, zeroing the record before each write.

Usage: old_writer.py PATH. Record number n has every field computed from n, so that a reader can tell a torn one. Says
"ready" when the page is there; ends when its parent has.
"""

import mmap
import os
import struct
import sys
import time

# struct.pack_into clears the record and then stores field after field, and nothing keeps a reader out meanwhile.
LAYOUT = struct.Struct("ddddddddfIIIIddIIf12s")

started = float(int(time.time()))


def fields(n):
    x = n / 1024
    return (started + x, started - x, x, n * 2.0**-50, x, 0.0, started, started + 3600 + x, (n % 256) / 256, n, 0x0F,
            1 + n % 4, n, started - 2 * x, x, n, 0, float(n % 1000), b"")


path = sys.argv[1]
with open(path + ".new", "wb") as first:
    first.write(LAYOUT.pack(*fields(1)))
os.rename(path + ".new", path)
file = open(path, "r+b")
page = mmap.mmap(file.fileno(), LAYOUT.size)
print("ready", flush=True)

parent = os.getppid()
n = 1
while os.getppid() == parent:
    for _ in range(10_000):
        n += 1
        LAYOUT.pack_into(page, 0, *fields(n))
