"""Waiting in asyncio: no thread, cancellation, the same errors; and using a client in a forked process."""

import asyncio
import gc
import struct
import threading
import time

import pytest
from support import DISRUPTED, SECOND_NS, VALID, WARMUP_COMPLETE, in_child, live_page

from chronotick import ChronoTickClient, ChronoTickError, ClientClosedError, TargetPastError


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
