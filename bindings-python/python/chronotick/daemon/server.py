"""The program `chronotick-daemon`: the options and verbs of the first ChronoTick over the daemon's own.

Whatever the daemon itself understands is handed to it unchanged, by exec: no Python runs beside the daemon.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from chronotick._native import ClockPage
from chronotick.daemon import binary, legacy_config
from chronotick.errors import ChronoTickError, DaemonNotRunningError, InvalidArgumentError

_ITS_OWN_VERBS = ("status", "sources", "tracking", "create-page", "eval", "help")
_USABLE = ("synchronized", "warming_up", "holdover")
_START_S = 30.0
_STOP_S = 15.0
_TEST_S = 20.0
_LOOK_S = 0.02
_USAGE = 2

_DESCRIPTION = """\
Measures this machine's clock against time servers and publishes corrected time. Without a verb it runs in the foreground."""

_EPILOG = """\
verbs:
  run          in the foreground, with the daemon's own options (run --help)
  start        in the background; returns when the time is known
  stop         ends the daemon that publishes the page
  status       the running daemon's state (--json)
  test         checks the installation, the configuration, and the running daemon or one of its own
  sources, tracking, check-config, create-page, eval
               the daemon's own (VERB --help)
Options that are not listed here go to the daemon: --server HOST, --shm NAME, ..."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Does not return where the daemon takes over."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _main(given)
    except (ChronoTickError, InvalidArgumentError) as e:
        print(f"chronotick-daemon: {e}", file=sys.stderr)
        return 1
    except OSError as e:
        # A program or a log file that cannot be used; the message names it.
        print(f"chronotick-daemon: {e.filename or 'the operating system'}: {e.strerror}", file=sys.stderr)
        return 1


def _main(given: list[str]) -> int:
    verb = given[0] if given and not given[0].startswith("-") else None
    if verb in _ITS_OWN_VERBS or given[:1] in (["--version"], ["-V"]):
        _exec(given)
    if verb == "check-config":
        with _files_translated(given[1:]) as rest:
            return subprocess.run([binary.find(), "check-config", *rest], check=False).returncode
    if verb is None or verb == "run":
        if verb == "run" and any(option in ("-h", "--help") for option in given):
            _exec(given)
        _exec(_run_arguments(given if verb is None else given[1:]))
    if verb == "start":
        return _start(given[1:])
    if verb == "stop":
        return _stop(given[1:])
    if verb == "test":
        return _test(given[1:])
    print(f"chronotick-daemon: no verb {verb!r}; see chronotick-daemon --help", file=sys.stderr)
    return _USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chronotick-daemon",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="configuration, TOML; or YAML of the first ChronoTick")
    parser.add_argument("--freq", metavar="HZ", type=_hertz, help="pages published in a second, 1 to 1000 [100]")
    parser.add_argument("--cpu-affinity", metavar="N", type=int, nargs="+", help="run on these processors only")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error [info]")
    return parser


def _hertz(text: str) -> int:
    value = float(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text} is no whole number")
    return int(value)


def _run_arguments(given: Sequence[str]) -> list[str]:
    """The daemon's arguments for the old options; sets this process's processors, which the daemon inherits."""
    options, rest = _parser().parse_known_args(given)
    arguments = ["run", *rest]
    if options.config is not None:
        arguments += ["--config", _readable_by_daemon(options.config)]
    if options.freq is not None:
        arguments += ["--rate", str(options.freq)]
    if options.log_level is not None:
        arguments += ["--log-level", legacy_config.log_level(options.log_level)]
    if options.cpu_affinity is not None:
        try:
            os.sched_setaffinity(0, options.cpu_affinity)
        except (OSError, OverflowError, ValueError) as e:
            usable = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
            raise InvalidArgumentError(
                f"--cpu-affinity {' '.join(map(str, options.cpu_affinity))}: {e}; this process may use {usable}"
            ) from e
    return arguments


def _readable_by_daemon(config: str) -> str:
    """The file itself, or the translation of an old one: in memory, where the daemon reads it through its inheritance."""
    if not legacy_config.is_legacy(config):
        return config
    translation = legacy_config.translate_file(config)
    for warning in translation.warnings:
        print(f"chronotick-daemon: {warning}", file=sys.stderr)
    memory = os.memfd_create(Path(config).name, 0)
    os.set_inheritable(memory, True)
    os.write(memory, translation.toml.encode())
    return f"/proc/self/fd/{memory}"


@contextlib.contextmanager
def _files_translated(arguments: Sequence[str]) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as directory:
        out = []
        for argument in arguments:
            if legacy_config.is_legacy(argument):
                translation = legacy_config.translate_file(argument)
                for warning in translation.warnings:
                    print(f"chronotick-daemon: {warning}", file=sys.stderr)
                translated = Path(directory) / (Path(argument).stem + ".toml")
                translated.write_text(translation.toml, encoding="utf-8")
                argument = str(translated)
            out.append(argument)
        yield out


def _exec(arguments: Sequence[str]) -> NoReturn:
    program = binary.find()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(program, [str(program), *arguments])


def _split_page(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The page's name, if one is given, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--shm")
    options, rest = parser.parse_known_args(arguments)
    return options.shm, rest


def _running_pid(name: str | None) -> int | None:
    """The process that publishes the page, as the daemon's status says it."""
    command = [str(binary.find()), "status", "--json", *(["--shm", name] if name else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout:
        return None
    pid = json.loads(done.stdout).get("pid")
    return pid if isinstance(pid, int) else None


def _log_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    directory = Path(state) / "chronotick"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / "chronotick-daemon.log"


def _start(given: Sequence[str]) -> int:
    name, _ = _split_page(given)
    running = _running_pid(name)
    if running is not None:
        print(f"chronotick-daemon: already running, pid {running}")
        return 0
    arguments = _run_arguments(given)
    log = _log_file()
    with open(log, "ab") as output:
        begin = output.tell()
        child = subprocess.Popen(
            [binary.find(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            close_fds=False,
        )
    deadline = time.monotonic() + _START_S
    publishes = False
    while time.monotonic() < deadline:
        if child.poll() is not None:
            said = log.read_bytes()[begin:].decode(errors="replace").strip()
            raise ChronoTickError(f"the daemon ended at once, exit code {child.returncode}: {said}", "not_running")
        publishes = publishes or _running_pid(name) == child.pid
        if publishes and _status(name) in _USABLE:
            print(f"chronotick-daemon: running, pid {child.pid}; its log is {log}")
            return 0
        time.sleep(_LOOK_S)
    if publishes:
        print(f"chronotick-daemon: running, pid {child.pid}, but no source of time has answered yet; its log is {log}")
        return 0
    raise ChronoTickError(f"the daemon (pid {child.pid}) has published nothing in {_START_S:.0f} s: see {log}", "io")


def _stop(given: Sequence[str]) -> int:
    pid = _running_pid(_split_page(given)[0])
    if pid is None:
        print("chronotick-daemon: not running")
        return 0
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        print("chronotick-daemon: not running")
        return 0
    try:
        # Held by the descriptor, the number cannot come to mean another process.
        called = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        if not binary.PROGRAM.startswith(called):
            raise ChronoTickError(f"pid {pid} is {called}, not the daemon: its status file is out of date", "internal")
        signal.pidfd_send_signal(process, signal.SIGTERM)
        ended = select.select([process], [], [], _STOP_S)[0]
    except PermissionError as e:
        raise ChronoTickError(f"the daemon (pid {pid}) is another user's: stop it as that user", "io") from e
    finally:
        os.close(process)
    if not ended:
        raise ChronoTickError(f"the daemon (pid {pid}) does not end: see its log", "io")
    print(f"chronotick-daemon: stopped, pid {pid}")
    return 0


def _test(given: Sequence[str]) -> int:
    name, others = _split_page(given)
    version = subprocess.run([binary.find(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"program:       ok, {version} ({binary.find()})")
    arguments = _run_arguments(others)
    pid = _running_pid(name)
    if pid is not None:
        print(f"daemon:        ok, running, pid {pid}")
        return _report(name)
    print("daemon:        not running; trying one on a page of its own")
    with tempfile.TemporaryDirectory() as directory:
        page = str(Path(directory) / "page")
        child = subprocess.Popen(
            [binary.find(), *arguments, "--shm", page, "--state-file", "none"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            close_fds=False,
        )
        try:
            deadline = time.monotonic() + _TEST_S
            while time.monotonic() < deadline and child.poll() is None and _status(page) != "synchronized":
                time.sleep(_LOOK_S)
            if child.poll() is not None:
                print(f"daemon:        FAILED, exit code {child.returncode}; what it said is above")
                return 1
            return _report(page)
        finally:
            child.terminate()
            child.wait()


def _status(name: str | None) -> str | None:
    try:
        return ClockPage(name).status()
    except ChronoTickError:
        return None


def _report(name: str | None) -> int:
    try:
        reading = ClockPage(name).now()
    except DaemonNotRunningError as e:
        print(f"page:          FAILED, {e}")
        return 1
    good = reading.status in ("synchronized", "holdover")
    bound = "no bound" if reading.max_error_ns is None else f"at most {reading.max_error_ns / 1e6:.3f} ms off"
    correction_ms = (reading.corrected_ns - reading.system_ns) / 1e6
    print(f"time:          {'ok' if good else 'FAILED'}, {reading.status}, correction {correction_ms:+.3f} ms, {bound}")
    if not good:
        print("               no time server has answered well enough: try --server HOST, or see the log above")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
