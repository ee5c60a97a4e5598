"""Measures waits: how late they end, what they cost, how far apart two processes start, and how long an attach takes.

    python wait.py [PAGE]

PAGE is a clock page; without it one is made that stays valid for an hour. Prints one JSON line for each figure, and the
histogram of the two processes. Run it on an idle machine: whatever else runs is in the figures.
"""

import asyncio
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from chronotick import ChronoTickClient, TargetPastError

WAITS = 1000
PAIRS = 500
ATTACHES = 1000
PAIR_EVERY_NS = 20_000_000
BINS_US = (5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 1_000_000)


def show(name, values_ns, **more):
    values = sorted(values_ns)

    def at(part):
        return round(values[min(int(len(values) * part), len(values) - 1)] / 1000, 1)

    figure = {"name": name, "unit": "us", "count": len(values), "p50": at(0.5), "p99": at(0.99), "max": at(1.0), **more}
    print(json.dumps(figure), flush=True)


def blocking(clock, tolerance_ns):
    chance = random.Random(1)
    late, spent = [], []
    for _ in range(WAITS):
        target_ns = clock.now_ns() + chance.randrange(2_000_000, 12_000_000)
        cpu_ns = time.thread_time_ns()
        late.append(clock.wait_until_ns(target_ns, tolerance_ns))
        spent.append(time.thread_time_ns() - cpu_ns)
    spent.sort()
    return late, {"cpu_us_p50": round(spent[len(spent) // 2] / 1000, 1), "cpu_us_max": round(spent[-1] / 1000, 1)}


async def in_asyncio(clock):
    chance = random.Random(1)
    late = []
    for _ in range(WAITS):
        late.append(await clock.wait_until_ns_async(clock.now_ns() + chance.randrange(2_000_000, 12_000_000)))
    return late


def started_at(page, begin_ns, results):
    """When this process went on after each of the moments, by a clock that both share."""
    clock, at_ns = ChronoTickClient(page), []
    for n in range(PAIRS):
        try:
            clock.wait_until_ns(begin_ns + n * PAIR_EVERY_NS)
        except TargetPastError:
            # A busy machine held us up for the whole time since the last one: that counts, too.
            pass
        at_ns.append(time.monotonic_ns())
    results.put(at_ns)


def two_processes(page):
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    begin_ns = ChronoTickClient(page).now_ns() + 2_000_000_000
    processes = [context.Process(target=started_at, args=(page, begin_ns, results)) for _ in range(2)]
    for process in processes:
        process.start()
    first, second = results.get(), results.get()
    for process in processes:
        process.join()
    return [abs(a - b) for a, b in zip(first, second, strict=True)]


def histogram(values_ns):
    low_us = 0
    for high_us in BINS_US:
        count = sum(low_us * 1000 <= value < high_us * 1000 for value in values_ns)
        if count:
            print(f"# {low_us:>6} to {high_us:>7} us {count:5} {'#' * (count * 50 // len(values_ns))}")
        low_us = high_us


def attaches(page):
    taken_ns = []
    for _ in range(ATTACHES):
        begin_ns = time.perf_counter_ns()
        client = ChronoTickClient(page)
        client.now_ns()
        taken_ns.append(time.perf_counter_ns() - begin_ns)
        client.close()
    return taken_ns


def main():
    with tempfile.TemporaryDirectory() as directory:
        if len(sys.argv) > 1:
            page = sys.argv[1]
        else:
            sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
            from support import live_page

            page = os.path.join(directory, "page")
            Path(page).write_bytes(live_page(valid_for_s=3600))
        clock = ChronoTickClient(page)
        for tolerance_ms in (1, 2):
            late, cost = blocking(clock, tolerance_ms * 1_000_000)
            show(f"wait.python.late.tolerance_{tolerance_ms}ms", late, **cost)
        show("wait.python.late.asyncio", asyncio.run(in_asyncio(clock)))
        show("attach.python", attaches(page))
        apart = two_processes(page)
        show("wait.python.two_processes_apart", apart, within_200us=round(sum(a < 200_000 for a in apart) / len(apart), 4))
        histogram(apart)


if __name__ == "__main__":
    main()
