"""The fields of the clock page that a `Reading` does not carry: counters, flags, validity."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from chronotick.client import ChronoTickClient
from chronotick.errors import ChronoTickError

PAGE_SIZE = 128
VALID, NTP_READY, MODELS_READY, WARMUP_COMPLETE = 1, 2, 4, 8

# docs/formats/clock-page.md; both versions of the page agree on these fields.
_FORMAT = struct.Struct("<8dfIIII4xddI4xf12x")
_MAGIC_AT, _MAGIC = 84, b"CT\x02"
_SEQUENCE_AT = 68
_ATTEMPTS = 2_000


class PageFields(NamedTuple):
    """The page as its writer left it, in the units of the page: seconds, and milliseconds for the latency."""

    corrected_timestamp: float
    system_timestamp: float
    offset_correction: float
    drift_rate: float
    offset_uncertainty: float
    drift_uncertainty: float
    prediction_time: float
    valid_until: float
    confidence: float
    sequence: int
    flags: int
    source: int
    measurement_count: int
    last_ntp_sync: float
    daemon_uptime: float
    total_corrections: int
    average_latency_ms: float


def page_path(client: ChronoTickClient) -> str:
    """Where the client's page is; attaches it, so that a missing page is the error of the client."""
    return str((client._page or client._attach()).path)


def read_bytes(path: str) -> bytes:
    """128 bytes that no writer was changing: twice the same, and with an even sequence unless the page is a legacy one.

    The file is opened for each reading, so that a page which was replaced is not read for ever.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise ChronoTickError(f"clock page {path}: {e.strerror}: start chronotick-daemon again", "io") from e
    try:
        before = b""
        for _ in range(_ATTEMPTS):
            # One byte more, so that a file of another size is noticed.
            page = os.pread(fd, PAGE_SIZE + 1, 0)
            if len(page) != PAGE_SIZE:
                raise ChronoTickError(
                    f"clock page {path} is not {PAGE_SIZE} bytes long: it is not that of a clock daemon", "wrong_size"
                )
            being_written = page.startswith(_MAGIC, _MAGIC_AT) and page[_SEQUENCE_AT] & 1
            if page == before and not being_written:
                return page
            before = page
    finally:
        os.close(fd)
    raise ChronoTickError(f"clock page {path}: its writer stopped in the middle: restart the daemon", "writer_died")


def read_fields(client: ChronoTickClient) -> PageFields:
    """The fields of the client's page."""
    return PageFields._make(_FORMAT.unpack(read_bytes(page_path(client))))
