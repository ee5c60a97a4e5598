"""The client on a live page: readings, waits, errors, threads."""

import asyncio
import gc
import os
import signal
import struct
import sys
import threading
import time

import pytest
from support import (
    DISRUPTED,
    NTP_READY,
    PAIRING_NS,
    REPOSITORY,
    SECOND_NS,
    VALID,
    WARMUP_COMPLETE,
    live_page,
    old_page,
)

import chronotick
from chronotick import (
    ChronoTickClient,
    ChronoTickError,
    ClientClosedError,
    CorrectedTime,
    DaemonNotRunningError,
    InvalidArgumentError,
    TargetPastError,
)


def test_now_is_the_system_clock_plus_the_offset(page_file):
    clock = ChronoTickClient(page_file(live_page(offset_s=1.5)))
    before = time.time_ns()
    reading = clock.now()
    after = time.time_ns()
    shift = 1_500_000_000
    assert before + shift - PAIRING_NS <= reading.corrected_ns <= after + shift + PAIRING_NS
    assert reading.corrected_ns - reading.system_ns == shift
    assert reading.earliest_ns < reading.corrected_ns < reading.latest_ns
    assert reading.max_error_ns == reading.latest_ns - reading.corrected_ns >= 1_000_000
    assert (reading.status, reading.source) == (clock.status(), "ntp") == ("synchronized", "ntp")
    assert reading.corrected_ns <= clock.now_ns() <= clock.now().corrected_ns


def test_a_reading_is_a_value(page_file):
    reading = ChronoTickClient(page_file.path).now()
    with pytest.raises(AttributeError):
        reading.corrected_ns = 0
    with pytest.raises(AttributeError):
        reading.other = 0
    page, at = live_page(), {"realtime_ns": 0, "boottime_ns": 0}
    one, two = chronotick.evaluate(page, **at), chronotick.evaluate(page, **at)
    assert one == two and hash(one) == hash(two) and one != reading
    assert f"corrected_ns={one.corrected_ns}, max_error_ns={one.max_error_ns}" in repr(one)


def test_get_time_is_the_old_tuple(default_page):
    default_page(live_page(offset_s=0.25))
    with ChronoTickClient() as clock:
        time_now = clock.get_time()
    assert time_now._fields == (
        "corrected_timestamp",
        "system_timestamp",
        "uncertainty_seconds",
        "confidence",
        "source",
        "offset_correction",
        "drift_rate",
    )
    corrected, system, sigma, confidence, source, offset, rate = time_now
    assert abs(corrected - system - 0.25) < 1e-6
    assert (source, offset, rate) == ("ntp", 0.25, 0.0)
    assert abs(sigma - 1e-5) < 1e-6 and abs(confidence - 0.95) < 1e-6
    assert chronotick.get_current_time().corrected_timestamp >= corrected
    # It is made natively; nothing may tell it from one that was made in Python.
    plain = CorrectedTime(*time_now)
    assert type(time_now) is CorrectedTime and time_now == plain and hash(time_now) == hash(plain)
    assert hash(time_now) == hash(tuple(time_now)) and repr(time_now) == repr(plain)
    assert time_now._asdict() == plain._asdict() and time_now._replace(source="x").source == "x"
    assert sys.getsizeof(time_now) == sys.getsizeof(plain)


def test_many_tuples_come_and_go(page_file):
    clock = ChronoTickClient(page_file.path)
    # Two are kept to be given out again.
    kept = [clock.get_time() for _ in range(2)]
    del kept
    before = sys.getrefcount(CorrectedTime)
    kept = [clock.get_time() for _ in range(5_000)]
    gc.collect()
    assert all(t.source == "ntp" and len(t) == 7 for t in kept)
    del kept
    gc.collect()
    assert sys.getrefcount(CorrectedTime) == before


def test_a_tuple_that_somebody_has_is_never_changed(page_file):
    clock, problems = ChronoTickClient(page_file.path), []

    def read():
        had = []
        for n in range(3_000):
            time_now = clock.get_time()
            had.append((time_now, tuple(time_now)))
            del time_now
            # Ones that are let go of at once in between are given out again.
            first, second = clock.get_time()[0], clock.get_time()[0]
            if not had[-1][1][0] <= first <= second:
                problems.append((n, first, second))
            if n % 3 == 0:
                had.pop(0)
        problems.extend(pair for pair in had if tuple(pair[0]) != pair[1])
        if len({id(time_now) for time_now, _ in had}) != len(had):
            problems.append("the same one twice")

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_tuple_given_out_again_is_of_the_page_as_it_is(page_file):
    clock = ChronoTickClient(page_file.path)
    for sequence, offset_s in ((4, 0.25), (6, 0.5), (8, 0.25)):
        with open(page_file.path, "r+b") as page:
            page.write(live_page(offset_s=offset_s, sequence=sequence))
        for _ in range(4):
            corrected, system, _, _, _, offset, _ = clock.get_time()
            assert offset == offset_s and abs(corrected - system - offset_s) < 1e-6


def test_a_class_that_reads_the_clock_when_a_tuple_goes(page_file):
    clock, read = ChronoTickClient(page_file.path), []

    def read_again(_):
        if len(read) < 100:
            read.append(clock.now_ns())
            clock.get_time()

    CorrectedTime.__del__ = read_again
    try:
        kept = [clock.get_time() for _ in range(10)]
        del kept
        assert clock.get_time().source == "ntp" and read
    finally:
        # While something else still has the clock: the function must not be what its last tuples go with.
        del CorrectedTime.__del__


def test_an_old_live_page(page_file):
    clock = ChronoTickClient(page_file(old_page(float(time.time_ns() // SECOND_NS))))
    assert clock.status() == "legacy"
    assert clock.now().max_error_ns is None
    assert clock.is_daemon_ready()


def test_ready_needs_a_valid_page_and_a_warm_daemon(page_file, tmp_path):
    def check(flags, want):
        assert ChronoTickClient(page_file(live_page(flags=flags))).is_daemon_ready() is want

    check(VALID | WARMUP_COMPLETE, True)
    check(VALID | NTP_READY, False)
    check(WARMUP_COMPLETE, False)
    assert ChronoTickClient(str(tmp_path / "absent")).is_daemon_ready() is False


def test_waits_end_at_or_after_their_target(page_file):
    clock = ChronoTickClient(page_file(live_page(offset_s=3600.0)))
    # The longest takes more than one slice of the wait.
    for ahead_ns, tolerance_ns in ((2_000_000, 0), (20_000_000, 5_000_000), (120_000_000, 1_000_000)):
        target = clock.now_ns() + ahead_ns
        late_ns = clock.wait_until_ns(target, tolerance_ns)
        assert late_ns >= 0
        assert clock.now_ns() >= target + late_ns
    target_s = clock.get_time().corrected_timestamp + 0.02
    assert clock.wait_until(target_s) is None
    assert clock.get_time().corrected_timestamp >= target_s


def test_past_targets_and_bad_arguments_are_value_errors(page_file):
    clock = ChronoTickClient(page_file.path)

    def check(code, message, call):
        with pytest.raises(ValueError, match=message) as raised:
            call()
        assert isinstance(raised.value, InvalidArgumentError)
        assert not isinstance(raised.value, RuntimeError), "`except RuntimeError` is for a clock that fails"
        assert raised.value.code == code

    check("already_past", "passed", lambda: clock.wait_until(time.time() - 5))
    check("already_past", "passed", lambda: clock.wait_until_ns(0))
    with pytest.raises(TargetPastError):
        clock.wait_until_ns(0)
    check("invalid_argument", "give a finite number", lambda: clock.wait_until(float("nan")))
    check("invalid_argument", "give a finite number", lambda: clock.wait_until(float("inf")))
    check("invalid_argument", "does not fit in 64 bits", lambda: clock.wait_until(1e300))
    check("invalid_argument", "does not fit in 64 bits", lambda: clock.wait_until_ns(1 << 63))
    check("invalid_argument", "give 0 or more", lambda: clock.wait_until_ns(1, -1))
    check("invalid_argument", "give 0 or more", lambda: clock.wait_until(1.0, -1.0))
    check("bad_name", "bad clock page name", lambda: ChronoTickClient("a/b").now())
    with pytest.raises(TypeError):
        clock.wait_until_ns("soon")


def test_no_daemon(tmp_path, monkeypatch):
    monkeypatch.setenv("CHRONOTICK_SHM", str(tmp_path / "absent"))
    for call in (chronotick.get_current_time, ChronoTickClient().now, ChronoTickClient().status):
        with pytest.raises(RuntimeError, match=r"^ChronoTick daemon not running\.") as raised:
            call()
        assert isinstance(raised.value, DaemonNotRunningError)
        assert raised.value.code == "not_running"
        assert "chronotick-daemon run" in str(raised.value)


def test_what_is_no_page(page_file, tmp_path):
    def check(code, name):
        with pytest.raises(ChronoTickError) as raised:
            ChronoTickClient(name).now()
        assert raised.value.code == code

    check("not_a_file", str(tmp_path))
    os.symlink(page_file.path, tmp_path / "link")
    check("not_a_file", str(tmp_path / "link"))
    check("wrong_size", page_file(bytes(100)))
    check("page_corrupt", page_file(b"\xff" * 128))
    check("writer_died", page_file(live_page(sequence=3)))


def test_the_time_in_other_ways(page_file):
    clock = ChronoTickClient(page_file(live_page(offset_s=1.5)))
    reading = clock.now()
    later = clock.at(10 * SECOND_NS)
    assert later.corrected_ns >= reading.corrected_ns + 10 * SECOND_NS
    assert later.max_error_ns > reading.max_error_ns and later.age_ns > reading.age_ns
    assert reading.before(later) and later.after(reading)
    assert not reading.before(reading) and not reading.after(reading)
    assert clock.at_system_time(reading.system_ns).corrected_ns == reading.corrected_ns
    assert clock.now_within(SECOND_NS).corrected_ns >= reading.corrected_ns
    with pytest.raises(ChronoTickError) as raised:
        clock.now_within(1)
    assert raised.value.code == "untrusted"
    with pytest.raises(ValueError, match="give 0 or more"):
        clock.now_within(-1)


def test_a_number_is_not_given_for_a_clock_that_is_not_usable(page_file):
    clock = ChronoTickClient(page_file(live_page(flags=VALID | WARMUP_COMPLETE | DISRUPTED)))
    with pytest.raises(ChronoTickError, match="disrupted") as raised:
        clock.now_ns()
    assert raised.value.code == "untrusted"


def test_waiting_for_a_clock_that_can_be_trusted(page_file):
    assert ChronoTickClient(page_file.path).wait_synchronized(0).status == "synchronized"
    clock = ChronoTickClient(page_file(live_page(flags=VALID)))
    with pytest.raises(ChronoTickError, match="warming_up") as raised:
        clock.wait_synchronized(0.12)
    assert raised.value.code == "untrusted"
    with pytest.raises(ValueError, match="give 0 or more"):
        clock.wait_synchronized(-1)


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'noww'"):
        _ = ChronoTickClient().noww


def test_an_untrusted_clock_is_not_waited_on(page_file):
    clock = ChronoTickClient(page_file(live_page(flags=VALID | WARMUP_COMPLETE | DISRUPTED)))
    assert clock.status() == "disrupted"
    assert clock.now().max_error_ns is None
    with pytest.raises(ChronoTickError, match="disrupted") as raised:
        clock.wait_until_ns((1 << 63) - 1)
    assert raised.value.code == "untrusted"


def test_a_closed_client_says_so(page_file):
    clock = ChronoTickClient(page_file.path)
    assert "not attached" in repr(clock)
    clock.now()
    assert page_file.path in repr(clock)
    clock.close()
    clock.close()
    assert "closed" in repr(clock)
    calls = (
        clock.now,
        clock.now_ns,
        clock.get_time,
        clock.status,
        clock.get_daemon_info,
        clock.is_daemon_ready,
        clock.__enter__,
        lambda: clock.get_future_time(1),
        lambda: clock.wait_until(time.time() + 1),
        lambda: clock.wait_until_ns(time.time_ns()),
        lambda: asyncio.run(clock.wait_until_async(time.time() + 1)),
    )
    for call in calls:
        with pytest.raises(ClientClosedError, match="closed: make another") as raised:
            call()
        assert isinstance(raised.value, RuntimeError) and raised.value.code == "closed"


def test_a_method_taken_before_the_first_use_attaches_once(page_file):
    clock = ChronoTickClient(page_file.path)
    now = clock.now
    now()
    page = clock._page
    assert now().status == "synchronized" and clock._page is page


def test_threads_share_a_client(page_file):
    clock, problems = ChronoTickClient(page_file.path), []
    start = threading.Barrier(4)

    def read():
        start.wait()
        last = 0
        for _ in range(5_000):
            now = clock.now_ns()
            if now < last:
                problems.append((last, now))
            last = now

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


@pytest.fixture
def during_the_wait():
    """Runs a function in another thread once this one lets go of the interpreter, which only a wait does here."""
    interval = sys.getswitchinterval()
    threads = []

    def arrange(function):
        begin = threading.Event()
        thread = threading.Thread(target=lambda: begin.wait() and function())
        thread.start()
        threads.append(thread)
        # No thread is made to let go for so long.
        sys.setswitchinterval(1_000.0)
        begin.set()

    yield arrange
    sys.setswitchinterval(interval)
    for thread in threads:
        thread.join()


def test_a_wait_lets_other_threads_run(page_file, during_the_wait):
    clock = ChronoTickClient(page_file(live_page(valid_for_s=30)))
    target_ns = clock.now_ns() + 3600 * SECOND_NS

    def disrupt():
        with open(page_file.path, "r+b") as page:
            # The sequence and the flags: whatever a daemon publishes has a new sequence.
            page.seek(68)
            page.write(struct.pack("<II", 4, VALID | WARMUP_COMPLETE | DISRUPTED))

    during_the_wait(disrupt)
    # With the interpreter held, nobody would disrupt the clock, and the page would expire.
    with pytest.raises(ChronoTickError, match="disrupted"):
        clock.wait_until_ns(target_ns)


@pytest.fixture
def ctrl_c_raises():
    """A shell starts background jobs with SIGINT ignored, and Python then leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_raises")
def test_a_signal_ends_a_wait(page_file, during_the_wait):
    clock = ChronoTickClient(page_file(live_page(valid_for_s=30)))
    target_ns = clock.now_ns() + 3600 * SECOND_NS
    during_the_wait(lambda: os.kill(os.getpid(), signal.SIGINT))
    # A wait that no signal ends is ended by the page's expiry, with another exception.
    with pytest.raises(KeyboardInterrupt):
        clock.wait_until_ns(target_ns)


def test_the_sample_of_the_readme_runs(default_page, capsys):
    readme = (REPOSITORY / "bindings-python" / "README.md").read_text()
    samples = [block.split("```")[0] for block in readme.split("```python\n")[1:]]
    assert samples
    for sample in samples:
        exec(compile(sample, "README.md", "exec"), {})
    assert "ns off, synchronized" in capsys.readouterr().out
