"""Waiting in asyncio: no thread, a loop that goes on, cancellation, the same errors; and a client in a forked process."""

import asyncio
import gc
import os
import struct
import threading
import time

import pytest
from support import DISRUPTED, SECOND_NS, VALID, WARMUP_COMPLETE, in_child, live_page

from chronotick import ChronoTickClient, ChronoTickError, ClientClosedError, TargetPastError, _alarms


def test_a_wait_ends_at_or_after_its_target(page_file):
    clock = ChronoTickClient(page_file(live_page(offset_s=3600.0)))

    async def wait():
        for ahead_ns in (500_000, 5_000_000, 300_000_000):
            target_ns = clock.now_ns() + ahead_ns
            late_ns = await clock.wait_until_ns_async(target_ns)
            assert late_ns >= 0 and clock.now_ns() >= target_ns + late_ns
        target_s = clock.get_time().corrected_timestamp + 0.02
        assert await clock.wait_until_async(target_s) is None
        assert clock.get_time().corrected_timestamp >= target_s

    asyncio.run(wait())


def test_many_wait_in_one_thread_and_the_loop_goes_on(page_file):
    clock, ticks = ChronoTickClient(page_file.path), []

    async def tick():
        while True:
            ticks.append(threading.active_count())
            await asyncio.sleep(0.005)

    async def wait():
        ticking = asyncio.create_task(tick())
        target_ns = clock.now_ns() + 100_000_000
        late_ns = await asyncio.gather(*(clock.wait_until_ns_async(target_ns + i % 5) for i in range(500)))
        ticking.cancel()
        return late_ns

    before = threading.active_count()
    assert min(asyncio.run(wait())) >= 0
    assert len(ticks) > 2 and set(ticks) == {before}


@pytest.fixture
def long_last_stretch(monkeypatch):
    """Waits are in their last stretch, which is no longer the event loop's own timer's, from the beginning."""
    monkeypatch.setattr("chronotick.client._ASYNC_LEAD_NS", 3600 * SECOND_NS)


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.usefixtures("long_last_stretch")
def test_other_tasks_run_while_waits_end(page_file):
    clock, turns, ended_at = ChronoTickClient(page_file.path), 0, []

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def wait_until(target_ns):
        await clock.wait_until_ns_async(target_ns)
        ended_at.append(turns)

    async def wait():
        turning = asyncio.create_task(turn())
        begin_ns = clock.now_ns() + 10_000_000
        await asyncio.gather(*(wait_until(begin_ns + n * 4_000_000) for n in range(50)))
        turning.cancel()

    asyncio.run(wait())
    # A turn takes microseconds; where each wait blocks the loop there is one turn or two for each.
    assert ended_at[0] > 10 and ended_at[-1] - ended_at[0] > 10 * len(ended_at), ended_at


@pytest.mark.usefixtures("long_last_stretch")
@pytest.mark.parametrize("tolerance_ns", [0, 1_000_000, 2_000_000])
def test_waits_of_one_loop_end_in_their_order(tolerance_ns, page_file):
    clock, ended = ChronoTickClient(page_file.path), []

    async def wait_until(name, target_ns):
        late_ns = await clock.wait_until_ns_async(target_ns, tolerance_ns)
        assert late_ns >= 0 and clock.now_ns() >= target_ns + late_ns
        ended.append(name)

    async def wait():
        begin_ns, files = clock.now_ns(), open_files()
        await asyncio.gather(*(wait_until(n, begin_ns + n * 60_000_000) for n in (3, 1, 2)))
        assert open_files() == files and not _alarms._of_loops

    asyncio.run(wait())
    assert ended == [1, 2, 3]


@pytest.mark.usefixtures("long_last_stretch")
def test_a_wait_is_cancelled_in_its_last_stretch(page_file):
    clock = ChronoTickClient(page_file.path)

    async def wait():
        files, threads = open_files(), threading.active_count()
        tasks = [asyncio.create_task(clock.wait_until_ns_async(clock.now_ns() + 20 * SECOND_NS)) for _ in range(5)]
        await asyncio.sleep(0)
        assert (open_files(), threading.active_count()) == (files + 1, threads), "they share one timer"
        near = asyncio.create_task(clock.wait_until_ns_async(clock.now_ns() + 50_000_000))
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await near >= 0
        assert (open_files(), threading.active_count()) == (files, threads)

    asyncio.run(wait())


@pytest.mark.usefixtures("long_last_stretch")
def test_a_loop_that_is_closed_during_a_wait_leaves_nothing(page_file):
    clock, loop = ChronoTickClient(page_file.path), asyncio.new_event_loop()
    gc.collect()
    before = open_files()
    loop.set_exception_handler(lambda *_: None)
    task = loop.create_task(clock.wait_until_ns_async(clock.now_ns() + 20 * SECOND_NS))
    loop.run_until_complete(asyncio.sleep(0))
    assert open_files() == before + 1
    loop.close()
    del loop, task
    gc.collect()
    assert open_files() <= before and not _alarms._of_loops


@pytest.mark.usefixtures("long_last_stretch")
def test_without_a_file_to_spare_a_wait_ends_all_the_same(page_file, monkeypatch):
    def none_left():
        raise OSError("too many open files")

    monkeypatch.setattr(_alarms, "Alarm", none_left)
    clock = ChronoTickClient(page_file.path)
    assert asyncio.run(clock.wait_until_ns_async(clock.now_ns() + 20_000_000)) >= 0


def test_an_alarm_takes_64_bits():
    for moment_ns in (-(1 << 63), -1, 0, 1, (1 << 63) - 1):
        _alarms.Alarm().set(moment_ns)
    with pytest.raises(ValueError, match="64 bits"):
        _alarms.Alarm().set(1 << 63)


def test_a_wait_can_be_cancelled(page_file):
    clock = ChronoTickClient(page_file.path)

    async def wait():
        task = asyncio.create_task(clock.wait_until_ns_async(clock.now_ns() + 3600 * SECOND_NS))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(clock.wait_until_async(time.time() + 3600), timeout=0.01)

    asyncio.run(wait())


def test_errors_of_a_wait(page_file):
    clock = ChronoTickClient(page_file.path)

    def check(error, message, awaitable):
        with pytest.raises(error, match=message or None):
            asyncio.run(awaitable)

    check(TargetPastError, "passed", clock.wait_until_async(time.time() - 5))
    check(ValueError, "finite", clock.wait_until_async(float("nan")))
    check(ValueError, "64 bits", clock.wait_until_async(1e300))
    check(ValueError, "64 bits", clock.wait_until_ns_async(1 << 63))
    check(ValueError, "give 0 or more", clock.wait_until_ns_async(1, -1))
    check(TypeError, "", clock.wait_until_ns_async(1.5e18))
    untrusted = ChronoTickClient(page_file(live_page(flags=VALID | WARMUP_COMPLETE | DISRUPTED)))
    check(ChronoTickError, "disrupted", untrusted.wait_until_async(time.time() + 3600))


def test_a_wait_ends_when_the_clock_is_disrupted_or_the_client_closed(page_file):
    clock = ChronoTickClient(page_file.path)

    async def wait(then):
        task = asyncio.create_task(clock.wait_until_ns_async(clock.now_ns() + 20 * SECOND_NS))
        await asyncio.sleep(0)
        then()
        await task

    def disrupt():
        with open(page_file.path, "r+b") as page:
            page.seek(68)
            page.write(struct.pack("<II", 4, VALID | WARMUP_COMPLETE | DISRUPTED))

    with pytest.raises(ChronoTickError, match="disrupted"):
        asyncio.run(wait(disrupt))
    page_file(live_page())
    clock = ChronoTickClient(page_file.path)
    with pytest.raises(ClientClosedError):
        asyncio.run(wait(clock.close))


def test_a_client_after_a_fork_attaches_again(page_file):
    clock, closed = ChronoTickClient(page_file.path), ChronoTickClient(page_file.path)
    clock.now()
    kept = clock.now_ns
    closed.close()
    assert "not attached" in in_child(lambda: repr(clock))
    assert in_child(lambda: (clock.now().status, kept() <= clock.now_ns(), page_file.path in repr(clock))) == str(
        ("synchronized", True, True)
    )
    assert in_child(lambda: clock.wait_until_ns(clock.now_ns() + 2_000_000) >= 0) == "True"
    assert in_child(closed.now).startswith("ClientClosedError")
    # The parent's is as it was; a page that is replaced is the child's too.
    assert page_file.path in repr(clock)
    page_file(live_page(offset_s=7.0))

    def correction_ns():
        reading = clock.now()
        return reading.corrected_ns - reading.system_ns

    assert in_child(correction_ns) == str(7 * SECOND_NS)


def test_a_fork_while_other_threads_read(page_file):
    clock, stop = ChronoTickClient(page_file.path), threading.Event()

    def read():
        while not stop.is_set():
            clock.now()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert in_child(lambda: clock.now().status) == "synchronized"
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_client_that_is_gone_is_not_kept(page_file):
    from chronotick.client import _attached

    gc.collect()
    before = len(_attached)
    clock = ChronoTickClient(page_file.path)
    clock.now()
    assert len(_attached) == before + 1
    del clock
    gc.collect()
    assert len(_attached) == before
