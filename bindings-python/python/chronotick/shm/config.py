"""The clock page as the first ChronoTick laid it out: constants, the record of 18 fields, reading and writing any buffer.

This is for programs that handle the page themselves. ChronoTickClient knows more of it (the anchor, the hard bound, the
status) and reads it by atomic words, in an order that was proved; copying 128 bytes, as here, is only nearly as good.
"""

from __future__ import annotations

import math
import struct
import time
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, NamedTuple

from chronotick.errors import ChronoTickError, InvalidArgumentError

if TYPE_CHECKING:
    # In collections.abc only from Python 3.12 on; type checkers know it here without the package.
    from typing_extensions import Buffer

SHARED_MEMORY_NAME = "chronotick_shm"
SHARED_MEMORY_SIZE = 128
CACHE_LINE_SIZE = 64
# Native alignment: there are 3 bytes of padding after measurement_count, which version 2 of the page uses.
LAYOUT_FORMAT = "ddddddddfIIIIddIIf12s"
LAYOUT_SIZE = 128

_LAYOUT = struct.Struct(LAYOUT_FORMAT)
_SEQUENCE = struct.Struct("I")
_SEQUENCE_AT = 68
_MAGIC = slice(84, 87)
_VERSION_2 = b"CT\x02"
# For a writer at 1000 Hz one retry is rare. So many are made, whatever the caller allows, before it is an error; where they
# wait, that is a second.
_LEAST_RETRIES = 200
# An old record that may be half written counts once it has not changed for so many looks, this far apart.
_STILL_LOOKS = 20
_STILL_S = 0.005
_ODD_S = 0.001
_DEFAULT_VALIDITY_S = 60.0


class CorrectionSource(IntEnum):
    """What the correction was computed from."""

    NO_DATA = 0
    NTP = 1
    CPU_MODEL = 2
    GPU_MODEL = 3
    FUSION = 4


class StatusFlags(IntFlag):
    """The flags of the first ChronoTick; `docs/formats/clock-page.md` has the others."""

    VALID = 1
    NTP_READY = 2
    MODELS_READY = 4
    WARMUP_COMPLETE = 8


class ChronoTickData(NamedTuple):
    """The page's 18 fields, in order. Times are Unix seconds."""

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
    source: CorrectionSource
    measurement_count: int
    last_ntp_sync: float
    daemon_uptime: float
    total_corrections: int
    reserved: int
    average_latency_ms: float

    @property
    def is_valid(self) -> bool:
        """The time may be used."""
        return bool(self.flags & StatusFlags.VALID)

    @property
    def is_ntp_ready(self) -> bool:
        """There is a measurement of a time server."""
        return bool(self.flags & StatusFlags.NTP_READY)

    @property
    def is_models_ready(self) -> bool:
        """The model of the oscillator is in use."""
        return bool(self.flags & StatusFlags.MODELS_READY)

    @property
    def is_warmup_complete(self) -> bool:
        """The daemon has measured enough to be relied on."""
        return bool(self.flags & StatusFlags.WARMUP_COMPLETE)

    def get_time_uncertainty(self, time_delta: float) -> float:
        """One standard deviation of the corrected time this many seconds from prediction_time."""
        return math.hypot(self.offset_uncertainty, self.drift_uncertainty * time_delta)

    def get_corrected_time_at(self, system_time: float) -> float:
        """Corrected time when the system clock shows `system_time`."""
        return system_time + self.offset_correction + self.drift_rate * (system_time - self.prediction_time)


def write_data(buffer: Buffer, data: ChronoTickData) -> None:
    """Writes the record to the first 128 bytes of a writable buffer, in one copy.

    It writes the first version of the page, without an anchor or a bound. The daemon does not use this.
    """
    try:
        record = _LAYOUT.pack(*data, b"")
    except struct.error as problem:
        raise InvalidArgumentError(f"the record cannot be written: {problem}") from problem
    with memoryview(buffer).cast("B") as view:
        _check_size(view)
        view[:LAYOUT_SIZE] = record


def read_data(buffer: Buffer) -> ChronoTickData:
    """The record in the first 128 bytes of a buffer. While somebody writes it, use `read_data_with_retry`."""
    return _decode(_copy(buffer))


def read_data_with_retry(buffer: Buffer, max_retries: int = 3) -> ChronoTickData:
    """The record, whole: not one that was half written while it was read.

    A page of version 2 has an odd sequence number while it is written. An older one tells nothing of the kind: its writer
    clears the record and stores field after field. So two copies in a row must be equal, and a record that is neither all
    that a daemon with data writes, nor that of one without data, must stay as it is for 100 ms.
    More retries than `max_retries` are made where that is few; when none helps, it is a ChronoTickError, which is a
    RuntimeError. Only average_latency_ms, the last field, may still be 0 where the writer was about to store it.
    """
    last, still = _copy(buffer), 0
    for _ in range(max(max_retries, _LEAST_RETRIES)):
        copy = _copy(buffer)
        if copy != last:
            last, still = copy, 0
        elif copy[_MAGIC] == _VERSION_2:
            if _SEQUENCE.unpack_from(copy, _SEQUENCE_AT)[0] % 2 == 0:
                return _decode(copy)
            # Its writer waits for a processor.
            time.sleep(_ODD_S)
        else:
            if still >= _STILL_LOOKS or _is_whole(copy):
                return _decode(copy)
            still += 1
            time.sleep(_STILL_S)
    raise ChronoTickError(
        "the clock page is half written and its daemon seems dead: restart chronotick-daemon", "writer_died"
    )


def create_default_data() -> ChronoTickData:
    """A record that says: there is no data yet."""
    now_s = time.time()
    return ChronoTickData(
        corrected_timestamp=now_s,
        system_timestamp=now_s,
        offset_correction=0.0,
        drift_rate=0.0,
        offset_uncertainty=0.0,
        drift_uncertainty=0.0,
        prediction_time=now_s,
        valid_until=now_s + _DEFAULT_VALIDITY_S,
        confidence=0.0,
        sequence_number=0,
        flags=0,
        source=CorrectionSource.NO_DATA,
        measurement_count=0,
        last_ntp_sync=0.0,
        daemon_uptime=0.0,
        total_corrections=0,
        reserved=0,
        average_latency_ms=0.0,
    )


def benchmark_read_latency(buffer: Buffer, iterations: int = 10000) -> float:
    """The mean time of one `read_data_with_retry`, in nanoseconds."""
    if iterations < 1:
        raise InvalidArgumentError(f"iterations is {iterations}: give 1 or more")
    begin_ns = time.perf_counter_ns()
    for _ in range(iterations):
        read_data_with_retry(buffer)
    return (time.perf_counter_ns() - begin_ns) / iterations


def _check_size(view: memoryview) -> None:
    if len(view) < LAYOUT_SIZE:
        raise InvalidArgumentError(f"the buffer is {len(view)} bytes long, a clock page is {LAYOUT_SIZE}", "wrong_size")


def _copy(buffer: Buffer) -> bytes:
    with memoryview(buffer).cast("B") as view:
        _check_size(view)
        return bytes(view[:LAYOUT_SIZE])


def _decode(page: bytes) -> ChronoTickData:
    fields = _LAYOUT.unpack(page)
    try:
        source = CorrectionSource(fields[11])
    except ValueError as problem:
        raise ChronoTickError(f"this is no clock page: its source is {fields[11]}, not 0 to 4", "page_corrupt") from problem
    return ChronoTickData._make((*fields[:11], source, *fields[12:18]))


def _is_whole(page: bytes) -> bool:
    """True when a record of the old format is certainly whole but for its last field."""
    data = _LAYOUT.unpack(page)
    has_times = all((data[0], data[1], data[6], data[7]))
    sequence, is_valid, uptime, corrections = data[9], data[10] & StatusFlags.VALID, data[14], data[15]
    with_data = sequence and is_valid and uptime and corrections
    without_data = not any((*data[2:6], *data[8:18]))
    return bool(has_times and (with_data or without_data))
