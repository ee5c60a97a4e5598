"""Every error that a program may meet: what it is, its code, and that it says what to do."""

import asyncio
import math
import os
from pathlib import Path

import pytest
from support import DISRUPTED, NTP_READY, SECOND_NS, VALID, WARMUP_COMPLETE, V2_FORMAT, in_child, live_page

from chronotick import ChronoTickClient, ChronoTickError

READY = VALID | NTP_READY | WARMUP_COMPLETE


def expired():
    return live_page(valid_for_s=-5.0)


def no_data():
    fields = list(V2_FORMAT.unpack(live_page(flags=0)))
    fields[11] = 0
    return V2_FORMAT.pack(*fields)


@pytest.mark.parametrize(
    ("page", "status"),
    [(live_page(flags=READY | DISRUPTED), "disrupted"), (expired(), "expired"), (no_data(), None)],
    ids=["disrupted", "expired", "no data"],
)
def test_a_clock_that_is_not_usable(page_file, page, status):
    clock = ChronoTickClient(page_file(page))
    reading = clock.now()
    assert status in (None, reading.status)
    ahead_ns = reading.corrected_ns + SECOND_NS
    calls = (
        clock.get_time,
        clock.now_ns,
        lambda: clock.get_future_time(1),
        lambda: clock.wait_until_ns(ahead_ns),
        lambda: asyncio.run(clock.wait_until_ns_async(ahead_ns)),
        lambda: clock.wait_synchronized(0),
    )
    for call in calls:
        with pytest.raises(ChronoTickError) as raised:
            call()
        assert raised.value.code == "untrusted"
        assert any(advice in str(raised.value) for advice in ("chronotick-daemon status", "allow more"))
    assert clock.get_daemon_info()["measurement_count"] == 100


def test_a_clock_that_warms_up_is_usable_and_says_so(page_file):
    clock = ChronoTickClient(page_file(live_page(flags=VALID | NTP_READY)))
    assert (clock.status(), clock.is_daemon_ready()) == ("warming_up", False)
    assert clock.get_time().source == "ntp" and clock.get_daemon_info()["status"] == "warming_up"
    with pytest.raises(ChronoTickError, match="warming_up"):
        clock.wait_synchronized(0)


@pytest.mark.parametrize("size", [0, 1, 127, 129, 4096])
def test_a_page_of_a_foreign_size(tmp_path, size):
    page = tmp_path / "page"
    page.write_bytes(bytes(size))
    with pytest.raises(ChronoTickError, match=f"is {size} bytes long, a clock page is 128") as raised:
        ChronoTickClient(str(page)).now()
    assert raised.value.code == "wrong_size"
    assert ChronoTickClient(str(page)).is_daemon_ready() is False


def test_permission_denied():
    if os.geteuid() != 0:
        pytest.skip("only root can run a program as somebody else")
    page = Path(f"/dev/shm/chronotick_test_denied_{os.getpid()}")
    page.write_bytes(live_page())
    page.chmod(0o600)

    def as_nobody():
        os.setuid(65534)
        try:
            return ChronoTickClient(str(page)).now()
        except ChronoTickError as e:
            return f"{e.code}: {e}"

    try:
        said = in_child(as_nobody)
    finally:
        page.unlink()
    assert said.startswith("io: cannot open the clock page") and "ermission denied" in said


NUMBERS = [math.nan, math.inf, -math.inf, 1e300, -1e300, 10**30, -(10**30), -1.0, 0, -0.0, 1e10 * 1e9]


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_absurd_numbers(page_file, number):
    clock = ChronoTickClient(page_file.path)
    with pytest.raises(ValueError):
        clock.wait_until(number)
    with pytest.raises(ValueError):
        asyncio.run(clock.wait_until_async(number))
    if not (isinstance(number, int | float) and 0 <= number <= 3600):
        with pytest.raises(ValueError):
            clock.get_future_time(number)
    if number < 0 or number != number or math.isinf(number):
        with pytest.raises(ValueError):
            clock.wait_synchronized(number)
        with pytest.raises(ValueError):
            clock.wait_until(clock.get_time().corrected_timestamp + 1, number)


def test_every_error_has_a_known_code():
    from chronotick import _native, errors

    assert "closed" not in _native.ERROR_CODES, "then ClientClosedError's should be that of all languages"
    for name in dir(errors):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, RuntimeError) != issubclass(kind, ValueError), name
