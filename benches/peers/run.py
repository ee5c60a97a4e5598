#!/usr/bin/env python3
"""Runs the same work through minoots and through its peers, and prints one JSON line per figure.

What the work is and what each peer was allowed is in README.md beside this file. It installs what is missing, and a
peer that cannot be had is said and left out. `--only NAME` runs one peer; `--dir DIR` chooses the disk.
"""

import argparse
import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

PAYLOAD_BYTES = 300
BATCH = 100
CREATE_SINGLE = 1000
# With the single creates, these are the timers that wait while the others fire.
CREATE_BATCHES = 90
HERD = 5000
LATENESS_PER_S = 100
LATENESS_S = 20
# A program that takes longer than this is ended, and its peer left out.
PROGRAM_TIMEOUT_S = 120

# Each figure and its unit; `create_batch` where the peer has a call for it.
UNITS = {
    "create_single": "timers/s",
    "create_batch": "timers/s",
    "fires": "fires/s",
    "herd_ms": "ms",
    "lateness_p50_ms": "ms",
    "lateness_p99_ms": "ms",
    "lateness_p999_ms": "ms",
}


class Skip(Exception):
    """Why a peer is left out."""


def say(text):
    print(text, flush=True)


def run(command, **options):
    """Runs a set-up command; what it says is shown only when it fails."""
    command = [str(c) for c in command]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()
        raise Skip(f"{' '.join(command[:3])} failed: {said[-1]}")
    return done.stdout


def apt(package):
    """Installs a Debian package, as root or with sudo."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if (sudo and not shutil.which("sudo")) or not shutil.which("apt-get"):
        raise Skip(f"{package} is not installed, and there is neither root nor sudo to install it")
    say(f"installing {package}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*sudo, "apt-get", "update", "-qq"], env=environment, capture_output=True)
    run([*sudo, "apt-get", "install", "-y", "-qq", "--no-install-recommends", package], env=environment)


def program(name, package=None):
    """Where a program is; installs its package, if one is named, when it is not there."""
    if package and not shutil.which(name):
        apt(package)
    found = shutil.which(name)
    if not found:
        raise Skip(f"there is no {name} here")
    return found


def stop(process, ask=signal.SIGTERM):
    """Asks a program to end, and ends it when it does not."""
    process.send_signal(ask)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(question):
    return subprocess.run([str(q) for q in question], capture_output=True).returncode == 0


def wait_until(ready, process, what):
    deadline = time.monotonic() + 30
    while not ready():
        if process.poll() is not None:
            raise Skip(f"{what} ended with status {process.returncode}")
        if time.monotonic() > deadline:
            raise Skip(f"{what} does not answer")
        time.sleep(0.05)


@contextlib.contextmanager
def redis(directory, hz=10):
    """A Redis on a private socket, which syncs its log before it answers."""
    server, cli = program("redis-server", "redis-server"), program("redis-cli", "redis-tools")
    socket = directory / "redis.sock"
    settings = {
        "port": "0", "unixsocket": socket, "dir": directory, "save": "", "appendonly": "yes", "appendfsync": "always",
        "loglevel": "warning", "hz": str(hz),
    }
    arguments = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    process = subprocess.Popen([server, *arguments], stdout=subprocess.DEVNULL)
    try:
        ask = [cli, "-s", str(socket)]
        wait_until(lambda: answers([*ask, "ping"]), process, "redis")
        kept = run([*ask, "config", "get", "append*"]).split()
        settings = dict(zip(kept[::2], kept[1::2]))
        version = run([server, "--version"]).split("v=")[1].split()[0]
        durable = f"appendonly {settings['appendonly']}, appendfsync {settings['appendfsync']}"
        say(f"bullmq: Redis {version}, {durable}, hz {hz}")
        yield str(socket)
    finally:
        stop(process)


def postgres_programs():
    """The folder of the newest PostgreSQL server."""
    def debian():
        return sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))

    if not debian() and not shutil.which("initdb"):
        apt("postgresql")
    return debian()[-1].parent if debian() else Path(program("initdb")).resolve().parent


@contextlib.contextmanager
def postgres(directory):
    """A PostgreSQL on a private socket, as Debian sets it up: fsync and synchronous commit are on."""
    programs = postgres_programs()
    user = {}
    if os.geteuid() == 0:
        # initdb and postgres refuse to run as root; the package makes this user.
        account = pwd.getpwnam("postgres")
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(directory, account.pw_uid, account.pw_gid)
    data = directory / "data"
    run([programs / "initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D", data],
        cwd=directory, **user)
    process = subprocess.Popen(
        [programs / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses=", "-c", "log_min_messages=fatal"],
        cwd=directory, stderr=open(directory / "log", "wb"), **user,
    )
    try:
        ask = [programs / "psql", "-h", directory, "-U", "postgres", "-qAt"]
        wait_until(lambda: answers([*ask, "-c", "select 1"]), process, "postgres")
        names = ("server_version", "fsync", "synchronous_commit")
        shown = [run([*ask, "-c", f"show {name}"]).strip() for name in names]
        say("river: PostgreSQL {}, fsync {}, synchronous_commit {}".format(*shown))
        yield f"postgres:///postgres?host={directory}&user=postgres"
    finally:
        stop(process, signal.SIGINT)


@contextlib.contextmanager
def nothing(_directory):
    """For a subject that needs no server."""
    yield None


def minoots_command():
    build = ["cargo", "build", "--quiet", "--release", "--package", "minoots"]
    subprocess.run(build, cwd=ROOT, check=True)
    subprocess.run([*build, "--example", "bench_service"], cwd=ROOT, check=True)
    return [TARGET / "release" / "examples" / "bench_service", "peer"]


def apscheduler_command():
    python = BUILD / "venv" / "bin" / "python"
    if not python.exists():
        try:
            run([sys.executable, "-m", "venv", BUILD / "venv"])
        except Skip:
            apt("python3-venv")
            run([sys.executable, "-m", "venv", "--clear", BUILD / "venv"])
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "-r", HERE / "apscheduler" / "requirements.txt"])
    return [python, HERE / "apscheduler" / "peer.py"]


def bullmq_command():
    # Debian's Node may be too old for the packages, so it is not installed from there.
    node, npm = program("node"), program("npm")
    version = run([node, "--version"]).strip()
    if int(version.lstrip("v").split(".")[0]) < 20:
        raise Skip(f"Node is {version}, and it wants 20 or newer")
    run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=HERE / "bullmq")
    return [node, HERE / "bullmq" / "peer.mjs"]


def river_command():
    go = program("go")
    run([go, "build", "-o", BUILD / "river", "."], cwd=HERE / "river")
    return [BUILD / "river"]


# Name, how it is built, its server, and the settings that only it has. A smaller herd is minoots' too, in that pair.
# `lead_ms` is how far ahead of their time the firing timers are created: enough for the subject to create them all, and
# for River also enough that its scheduler, which looks every 5 s, has seen them.
MINOOTS = ("minoots", minoots_command, nothing, {"lead_ms": 2000})
PEERS = [
    ("apscheduler", apscheduler_command, nothing, {"lead_ms": 6000, "create_single": 300, "herd": 1000}),
    ("bullmq", bullmq_command, redis, {"lead_ms": 3000, "concurrency": 100}),
    # The most that Redis documents. Its creates, too, are only those of the timers that wait meanwhile.
    ("bullmq_fast", bullmq_command, lambda directory: redis(directory, hz=500),
     {"lead_ms": 3000, "concurrency": 100, "create_single": 0}),
    ("river", river_command, postgres, {"lead_ms": 7500, "concurrency": 1000}),
    # At the documented limits of its settings. Its creates are only those of the timers that wait meanwhile.
    ("river_fast", river_command, postgres, {"lead_ms": 7500, "concurrency": 10_000, "poll_ms": 1, "create_single": 0}),
]


def work(parts):
    """The work of one run; `parts` may leave some of it out."""
    # The same instants for everyone.
    instants = random.Random(1)
    offsets_ms = sorted(instants.randrange(LATENESS_S * 1000) for _ in range(LATENESS_PER_S * LATENESS_S))
    return {
        "payload_bytes": PAYLOAD_BYTES, "batch": BATCH, "create_single": CREATE_SINGLE,
        "create_batches": CREATE_BATCHES, "herd": HERD, "offsets_ms": offsets_ms, **parts,
    }


def say_disk(parent, before):
    """What a sync costs now. Everyone waits for the disk, so a figure is worth little beside one of a busier moment."""
    took_us = []
    with tempfile.TemporaryFile(dir=parent) as file:
        os.posix_fallocate(file.fileno(), 0, PAYLOAD_BYTES * 200)
        for at in range(200):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), bytes(PAYLOAD_BYTES), PAYLOAD_BYTES * at)
            os.fdatasync(file.fileno())
            took_us.append((time.perf_counter() - begin) * 1e6)
    took_us.sort()
    say(f"disk before {before}: write+fdatasync p50 {took_us[100]:.0f} us, p99 {took_us[198]:.0f} us")


def measure(subject, command, parent, parts=None):
    """Runs a subject's program over a directory and a server of its own, and returns its figures."""
    name, _, server, settings = subject
    say_disk(parent, name)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=parent) as directory:
        directory = Path(directory)
        with server(directory) as endpoint:
            asked = {**work(settings), "dir": str(directory), "endpoint": endpoint, **(parts or {})}
            task = Path(parent) / f"{name}.json"
            task.write_text(json.dumps(asked))
            try:
                done = subprocess.run([*command, task], stdout=subprocess.PIPE, text=True, timeout=PROGRAM_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise Skip(f"it was not ready after {PROGRAM_TIMEOUT_S} s") from None
    if done.returncode:
        raise Skip(f"its program ended with status {done.returncode}")
    try:
        raw = json.loads(done.stdout)
    except ValueError:
        raise Skip(f"its results are not JSON: {done.stdout[-80:]!r}") from None
    return figures(raw, asked)


def figures(raw, asked):
    """Turns raw results into figures."""
    if "version" in raw:
        say(f"  {raw['version']}")
    made = {}
    if asked["create_single"]:
        made = {key: raw.get(f"{key}_per_s") or None for key in ("create_single", "create_batch")}
    for key, count in (("herd_ms", asked["herd"]), ("lateness_ms", len(asked["offsets_ms"]))):
        if len(raw[key] or []) != count:
            raise Skip(f"{len(raw[key] or [])} of {count} timers fired")
    herd = sorted(raw["herd_ms"] or [])
    if herd:
        made["fires"] = (len(herd) - 1) / (herd[-1] - herd[0]) * 1000
        made["herd_ms"] = herd[-1]
    made.update({f"lateness_{name}_ms": late for name, late in percentiles(raw["lateness_ms"] or []).items()})
    recorded = percentiles(raw.get("recorded_lateness_ms", []))
    if recorded:
        say("minoots recorded its lateness as " + ", ".join(f"{name} {late:.3f} ms" for name, late in recorded.items()))
    return {key: value for key, value in made.items() if value is not None}


def percentiles(values):
    ordered = sorted(values)
    shares = (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
    return {name: ordered[min(int(len(ordered) * share), len(ordered) - 1)] for name, share in shares if ordered}


def show(peer, ours, theirs):
    for figure, unit in UNITS.items():
        if figure in theirs and figure in ours:
            line = {
                "name": f"kernel.peer.{peer}.{figure}", "value": round(ours[figure], 3), "unit": unit, "baseline": peer,
                "baseline_value": round(theirs[figure], 3), "ratio": round(ours[figure] / theirs[figure], 4),
            }
            print(json.dumps(line, separators=(",", ":")), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", choices=[p[0] for p in PEERS], help="run only this peer")
    parser.add_argument("--dir", metavar="DIR", default="/var/tmp", help="where the data goes (default: /var/tmp)")
    arguments = parser.parse_args()
    # So that servers are stopped when this program is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    BUILD.mkdir(parents=True, exist_ok=True)
    our_command = minoots_command()
    begin = time.monotonic()
    skipped = []

    def skip(name, why):
        skipped.append(f"skipped: {name}: {why}")
        say(skipped[-1])

    with tempfile.TemporaryDirectory(prefix="peers-", dir=arguments.dir) as parent:
        # Servers that run as another user must reach their folder.
        os.chmod(parent, 0o755)
        ours = {}
        for number, peer in enumerate(p for p in PEERS if arguments.only in (None, p[0])):
            name, build, _, settings = peer
            try:
                command = build()
            except Skip as why:
                skip(name, why)
                continue
            # Ours is measured again before each peer, and the long part before every third.
            parts = {"herd": settings.get("herd", HERD)}
            if number % 3 and "lateness_p50_ms" in ours:
                parts["offsets_ms"] = []
            try:
                ours.update(measure(MINOOTS, our_command, parent, parts))
            except Skip as why:
                sys.exit(f"minoots: {why}")
            try:
                theirs = measure(peer, command, parent)
            except Skip as why:
                skip(name, why)
                continue
            if name == "apscheduler":
                say("apscheduler has no call that creates many: no create_batch")
            show(name, ours, theirs)
    took_s = time.monotonic() - begin
    say(f"peers: {took_s:.0f} s after building minoots; {HERD} timers in the herd, {LATENESS_PER_S}/s for {LATENESS_S} s")
    for why in skipped:
        say(why)


if __name__ == "__main__":
    main()
