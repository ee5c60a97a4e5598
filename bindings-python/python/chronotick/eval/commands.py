"""The program `chronotick-client`: read, monitor, status, benchmark, json."""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chronotick.client import ChronoTickClient
from chronotick.errors import ChronoTickError, InvalidArgumentError
from chronotick.eval import benchmark, plot
from chronotick.shm.config import ChronoTickData

_NS_PER_S = 1_000_000_000
_USAGE = 2
# What a plot is made of: at ten readings a second the last half hour.
_KEPT = 18_000
_PLOT_ROWS = 16
_CLEAR = "\x1b[H\x1b[2J"


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return _USAGE
    try:
        code: int = options.run(options)
        return code
    except (ChronoTickError, InvalidArgumentError) as e:
        print(f"chronotick-client: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever reads our output, a pager for instance, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chronotick-client",
        description="Shows the time that chronotick-daemon publishes.",
        epilog="The clock page is $CHRONOTICK_SHM, else chronotick_shm.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, help_: str, run: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
        sub.set_defaults(run=run)
        return sub

    command("read", "the time once", _read)
    monitor = command("monitor", "offset and bound over time, until Ctrl-C", _monitor)
    monitor.add_argument("--interval", type=_positive, default=0.1, metavar="S", help="seconds between readings [0.1]")
    monitor.add_argument("--count", type=_count, metavar="N", help="end after so many readings")
    monitor.add_argument("--plot", type=_svg, metavar="FILE.svg", help="write the picture as SVG when it ends")
    command("status", "how the daemon is doing", _status)
    bench = command("benchmark", "how long a reading takes here", _benchmark)
    bench.add_argument("--iterations", type=_count, default=10_000, metavar="N", help="readings [10000]")
    as_json = command("json", "all of the page, as JSON", _json)
    as_json.add_argument("--pretty", action="store_true", help="with indentation")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text}: give a number of seconds above 0")
    return value


def _svg(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".svg":
        raise argparse.ArgumentTypeError(
            f"{text}: only SVG is written; give {path.with_suffix('.svg') if path.name else 'a name that ends in .svg'}. "
            "A browser shows it, and rsvg-convert or Inkscape make a PNG of it"
        )
    return path


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: give 1 or more")
    return value


def _amount(seconds: float) -> str:
    size, unit = plot.unit_for(seconds)
    return f"{seconds / size:.3f} {unit}"


def _utc(ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // _NS_PER_S)) + f".{ns % _NS_PER_S:09}Z"


def _sample(client: ChronoTickClient) -> tuple[plot.Sample, list[str]]:
    reading = client.now()
    offset_s = (reading.corrected_ns - reading.system_ns) / _NS_PER_S
    bound_s = None if reading.max_error_ns is None else reading.max_error_ns / _NS_PER_S
    sample = plot.Sample(reading.system_ns / _NS_PER_S, offset_s, bound_s, reading.status)
    lines = [
        f"corrected time  {_utc(reading.corrected_ns)}  ({reading.corrected_ns / _NS_PER_S:.6f})",
        f"system time     {_utc(reading.system_ns)}",
        f"offset          {'+' if offset_s >= 0 else '-'}{_amount(abs(offset_s))}   rate {reading.drift_rate * 1e6:+.3f} us/s",
        f"bound           {'none' if bound_s is None else '±' + _amount(bound_s)}   sigma {_amount(reading.sigma_ns / 1e9)}",
        f"status          {reading.status}   source {reading.source}   confidence {reading.confidence:.1%}",
    ]
    return sample, lines


def _read(options: argparse.Namespace) -> int:
    with ChronoTickClient() as client:
        sample, lines = _sample(client)
        print("\n".join(lines))
    return 0 if sample.status in ("synchronized", "holdover", "warming_up", "legacy") else 1


def _monitor(options: argparse.Namespace) -> int:
    samples: collections.deque[plot.Sample] = collections.deque(maxlen=_KEPT)
    live = sys.stdout.isatty()
    try:
        with ChronoTickClient() as client:
            while options.count is None or len(samples) < options.count:
                if samples:
                    time.sleep(options.interval)
                sample, lines = _sample(client)
                samples.append(sample)
                if live:
                    columns = shutil.get_terminal_size().columns
                    picture = plot.text(samples, columns, _PLOT_ROWS)
                    print(_CLEAR + "\n".join([*lines, "", picture, "", "Ctrl-C ends"]), flush=True)
                else:
                    bound = "none" if sample.bound_s is None else _amount(sample.bound_s)
                    print(f"{sample.at_s:.6f} offset {_amount(sample.offset_s)} bound {bound} {sample.status}", flush=True)
    except KeyboardInterrupt:
        pass
    if not live:
        print(plot.text(samples))
    if options.plot is not None:
        try:
            options.plot.write_text(plot.svg(samples), encoding="utf-8")
        except OSError as e:
            raise ChronoTickError(f"cannot write {options.plot}: {e.strerror}", "io") from e
        print(f"written: {options.plot}")
    return 0


def _status(options: argparse.Namespace) -> int:
    with benchmark.ChronoTickClient() as client:
        status = client.get_status()
    since = status["seconds_since_ntp"]
    bound_s = status["max_error_seconds"]
    rows = {
        "status": status["status"],
        "uptime": f"{status['daemon_uptime']:.1f} s",
        "warmed up": "yes" if status["warmup_complete"] else "no",
        "measurements": f"{status['measurement_count']}, the last {'never' if since is None else f'{since:.1f} s ago'}",
        "corrections": status["total_corrections"],
        "source": f"{status['source'].lower()}, confidence {status['confidence']:.1%}",
        "offset": f"{status['offset_correction'] * 1e6:+.3f} us, rate {status['drift_rate'] * 1e6:+.3f} us/s",
        "bound": "none" if bound_s is None else f"±{_amount(bound_s)}",
    }
    for name, value in rows.items():
        print(f"{name:14}{value}")
    return 0 if status["data_valid"] and status["daemon_running"] else 1


def _benchmark(options: argparse.Namespace) -> int:
    with benchmark.ChronoTickClient() as client:
        result = client.benchmark_read_performance(options.iterations)
    print(f"{result['iterations']} readings: {result['average_latency_ns']:.0f} ns each,", end=" ")
    print(f"{result['reads_per_second_millions']:.2f} million a second")
    return 0


def _json(options: argparse.Namespace) -> int:
    with benchmark.ChronoTickClient() as client, ChronoTickClient() as reader:
        data: ChronoTickData = client.read_data()
        reading = reader.now()
    content = {
        "corrected_time": reading.corrected_ns / _NS_PER_S,
        "system_time": reading.system_ns / _NS_PER_S,
        "offset_correction": data.offset_correction,
        "drift_rate": data.drift_rate,
        "offset_uncertainty": data.offset_uncertainty,
        "drift_uncertainty": data.drift_uncertainty,
        "time_uncertainty": reading.sigma_ns / _NS_PER_S,
        "confidence": data.confidence,
        "source": data.source.name,
        "prediction_time": data.prediction_time,
        "valid_until": data.valid_until,
        "is_valid": data.is_valid,
        "is_ntp_ready": data.is_ntp_ready,
        "is_models_ready": data.is_models_ready,
        "is_warmup_complete": data.is_warmup_complete,
        "daemon_uptime": data.daemon_uptime,
        "measurement_count": data.measurement_count,
        "total_corrections": data.total_corrections,
        "status": reading.status,
        "max_error": None if reading.max_error_ns is None else reading.max_error_ns / _NS_PER_S,
        "corrected_ns": reading.corrected_ns,
        "earliest_ns": reading.earliest_ns,
        "latest_ns": reading.latest_ns,
    }
    print(json.dumps(content, indent=2 if options.pretty else None))
    return 0
