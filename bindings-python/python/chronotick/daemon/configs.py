"""The program `chronotick-config`: sample configurations of the daemon, which of them fits this machine, and checking one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from chronotick.daemon import server
from chronotick.errors import ChronoTickError, InvalidArgumentError


class Sample(NamedTuple):
    """A configuration to begin with."""

    name: str
    purpose: str
    toml: str


SAMPLES = (
    Sample(
        "pool",
        "servers of the public NTP pool; works wherever there is an Internet connection",
        """\
# Four servers of four operators outvote one that lies.
servers = ["0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org", "3.pool.ntp.org"]
""",
    ),
    Sample(
        "lan",
        "servers in the same building: write their names into it",
        """\
# Asked often, since they are ours.
servers = ["ntp1.example.lan", "ntp2.example.lan", "ntp3.example.lan"]
min_poll_s = 1
max_poll_s = 16
burst_interval_ms = 100
# A daemon that dies is noticed by readers within three seconds.
validity_s = 3
""",
    ),
    Sample(
        "chrony",
        "the chronyd of this machine, which keeps the system clock already",
        """\
# No server is asked twice: what chronyd knows is taken over, with its bound.
chrony = true
""",
    ),
    Sample(
        "nts",
        "servers that prove who they are (NTS, RFC 8915)",
        """\
nts_servers = ["time.cloudflare.com", "nts.netnod.se", "ptbtime1.ptb.de"]
""",
    ),
    Sample(
        "phc",
        "a PTP hardware clock, as some clouds offer: write its error bound into it",
        """\
phc = "/dev/ptp0"
# How far that clock may be wrong, in microseconds: its provider says. The bound that readers get rests on it.
phc_error_bound_us = 100
# 0 where the clock holds UTC, 37 where it holds TAI.
phc_tai_offset_s = 0
""",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="chronotick-config", description="Sample configurations of chronotick-daemon.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="the samples")
    what.add_argument("--recommend", action="store_true", help="which of them fits this machine, and why")
    what.add_argument("--select", metavar="NAME", help="write a sample to the file that --output names")
    what.add_argument("--validate", metavar="FILE", help="check a configuration, TOML or the first ChronoTick's YAML")
    parser.add_argument("--output", metavar="FILE", help="for --select [~/.config/chronotick/chronotick.toml]")
    parser.add_argument("--force", action="store_true", help="for --select: replace a file that is there")
    options = parser.parse_args(arguments)
    try:
        if options.list:
            for sample in SAMPLES:
                print(f"{sample.name:8}{sample.purpose}")
        elif options.recommend:
            name, why = recommend()
            print(f"{name}: {why}")
            print(f"chronotick-config --select {name}")
        elif options.select is not None:
            path = select(options.select, options.output, replace=options.force)
            print(f"written: {path}")
            print(f"chronotick-daemon --config {path}")
        else:
            return server.main(["check-config", options.validate])
    except (ChronoTickError, InvalidArgumentError) as e:
        print(f"chronotick-config: {e}", file=sys.stderr)
        return 1
    return 0


def recommend(root: Path = Path("/")) -> tuple[str, str]:
    """The sample that fits the machine whose file system begins at `root`, and the reason."""
    if _runs(root, "chronyd"):
        return "chrony", "a chronyd runs here, and knows the time and its bound already"
    clocks = sorted((root / "dev").glob("ptp[0-9]*"))
    virtual = [clock for clock in clocks if _clock_name(root, clock.name).lower().startswith(("kvm", "hyperv", "ena"))]
    if virtual:
        return "phc", f"the hypervisor offers a clock, /dev/{virtual[0].name}; find out its error bound first"
    return "pool", "no local source of time is here, so servers on the Internet are asked"


def select(name: str, output: str | None = None, *, replace: bool = False) -> Path:
    """Writes the sample with this name, and returns where."""
    sample = next((s for s in SAMPLES if s.name == name), None)
    if sample is None:
        raise InvalidArgumentError(f"no sample {name!r}: there are {', '.join(s.name for s in SAMPLES)}")
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = Path(output) if output else Path(home) / "chronotick" / "chronotick.toml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w" if replace else "x", encoding="utf-8") as file:
            file.write(f"# {sample.name}: {sample.purpose}.\n{sample.toml}")
    except FileExistsError as e:
        raise ChronoTickError(f"{path} is there already: name another with --output, or say --force", "io") from e
    except OSError as e:
        raise ChronoTickError(f"cannot write {path}: {e.strerror}", "io") from e
    return path


def _runs(root: Path, program: str) -> bool:
    for comm in (root / "proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text(encoding="utf-8", errors="replace").strip() == program:
                return True
        except OSError:
            # It has ended meanwhile.
            continue
    return False


def _clock_name(root: Path, device: str) -> str:
    try:
        return (root / "sys/class/ptp" / device / "clock_name").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


if __name__ == "__main__":
    raise SystemExit(main())
