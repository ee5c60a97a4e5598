"""APScheduler over an SQLite file: the work of benches/peers, for one scheduler in one process.

The scheduler is paused while timers are created, which spares it a look at the store after each (a favour to it), and
timers that are only set up, not measured, are loaded through a connection that does not sync.
"""

import json
import sqlite3
import sys
import threading
import time
from datetime import datetime, timedelta, timezone

import apscheduler
import sqlalchemy
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Its default, which skips a job that starts more than one second late, would drop most of the herd.
JOB_DEFAULTS = {"misfire_grace_time": None}

fires = []
all_fired = threading.Event()
wanted = 0


def fire(due_ms, payload):
    """The handler: it records the time."""
    fires.append(time.time_ns() / 1e6 - due_ms)
    if len(fires) == wanted:
        all_fired.set()


def nothing(payload):
    """The handler of far timers."""


def scheduler(url, durable):
    engine = sqlalchemy.create_engine(url)
    if not durable:
        sqlalchemy.event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
    made = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(engine=engine)},
        executors={"default": ThreadPoolExecutor(10)},
        job_defaults=JOB_DEFAULTS,
        timezone=timezone.utc,
    )
    made.start(paused=True)
    return made


def create_far(at, payload):
    at.add_job(nothing, "date", run_date=datetime.now(timezone.utc) + timedelta(days=1), args=[payload])


def fire_all(work, url, subject, offsets_ms):
    """Sets timers up, lets the scheduler run until the last has fired, and returns how late each was."""
    global wanted
    if not offsets_ms:
        return []
    fires.clear()
    all_fired.clear()
    wanted = len(offsets_ms)
    start_ms = time.time_ns() // 1_000_000 + work["lead_ms"]
    loader = scheduler(url, durable=False)
    for offset_ms in offsets_ms:
        due_ms = start_ms + offset_ms
        due = EPOCH + timedelta(milliseconds=due_ms)
        loader.add_job(fire, "date", run_date=due, args=[due_ms, "x" * work["payload_bytes"]])
    loader.shutdown()
    if time.time_ns() // 1_000_000 >= start_ms:
        sys.exit("creating took longer than the lead: raise it in run.py")
    subject.resume()
    if not all_fired.wait(120):
        sys.exit(f"{len(fires)} of {wanted} timers fired")
    subject.pause()
    return list(fires)


def main():
    with open(sys.argv[1]) as file:
        work = json.load(file)
    url = f"sqlite:///{work['dir']}/jobs.sqlite"
    payload = "x" * work["payload_bytes"]
    subject = scheduler(url, durable=True)
    versions = {
        "APScheduler": apscheduler.version, "SQLAlchemy": sqlalchemy.__version__, "SQLite": sqlite3.sqlite_version,
    }
    results = {"version": ", ".join(f"{name} {version}" for name, version in versions.items())}
    begin = time.monotonic()
    for _ in range(work["create_single"]):
        create_far(subject, payload)
    results["create_single_per_s"] = work["create_single"] / (time.monotonic() - begin)
    loader = scheduler(url, durable=False)
    for _ in range(work["create_batches"] * work["batch"]):
        create_far(loader, payload)
    loader.shutdown()
    results["herd_ms"] = fire_all(work, url, subject, [0] * work["herd"])
    results["lateness_ms"] = fire_all(work, url, subject, work["offsets_ms"])
    subject.shutdown(wait=False)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
