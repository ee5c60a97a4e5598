#!/usr/bin/env python3
"""Runs every test of the repository in every language, and ends with a plain summary.

`test.py` is `make test`: it installs what it needs first. `test.py --check` is `make check`: format, lints, generated
files and unit tests only. `test.py STAGE ...` runs the named stages. Exit status 1 when anything failed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
VENV = BUILD / "venv"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# How each runner's closing lines are counted: (pattern, what its groups are).
COUNTS = [
    (re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored"), ("passed", "failed", "skipped")),
    (re.compile(r"^--- PASS"), "passed"),
    (re.compile(r"^--- FAIL"), "failed"),
    (re.compile(r"^--- SKIP"), "skipped"),
    (re.compile(r"^(?:#|ℹ) pass (\d+)"), ("passed",)),
    (re.compile(r"^(?:#|ℹ) fail (\d+)"), ("failed",)),
    (re.compile(r"^(?:#|ℹ) skipped (\d+)"), ("skipped",)),
]
PYTEST = re.compile(r"(\d+) (passed|failed|skipped|error)")
PYTEST_CLOSING = re.compile(r"^=* ?\d+ (passed|failed|skipped|error).* in [\d.]+s")


def have(command):
    return shutil.which(command) is not None


class Stages:
    """Runs commands, counts their tests, remembers what failed."""

    def __init__(self):
        self.totals = {"passed": 0, "failed": 0, "skipped": 0}
        self.failures = []
        self.notes = []

    def run(self, name, command, cwd=ROOT, env=None, counts=True):
        """Runs a command and shows its output; a failure is kept and the next stage goes on."""
        shown = " ".join(str(c) for c in command)
        print(f"\n=== {name}: {shown}", flush=True)
        start = time.monotonic()
        process = subprocess.Popen(
            [str(c) for c in command], cwd=cwd, env={**os.environ, **(env or {})}, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )
        failed_here = 0
        for line in process.stdout:
            print(line, end="", flush=True)
            if counts:
                failed_here += self.count(line.strip())
            if line.lstrip().startswith("skipped:"):
                self.notes.append(line.strip())
        code = process.wait()
        print(f"=== {name}: {'ok' if code == 0 else f'exit {code}'} in {time.monotonic() - start:.0f} s", flush=True)
        if code != 0:
            self.failures.append(name)
            if not failed_here:
                self.totals["failed"] += 1
        return code == 0

    def count(self, line):
        failed_before = self.totals["failed"]
        if PYTEST_CLOSING.match(line):
            for number, what in PYTEST.findall(line):
                self.totals["failed" if what == "error" else what] += int(number)
        for pattern, what in COUNTS:
            match = pattern.match(line)
            if match and isinstance(what, str):
                self.totals[what] += 1
            elif match:
                for group, kind in zip(match.groups(), what):
                    self.totals[kind] += int(group)
        return self.totals["failed"] - failed_before

    def skip(self, what, why):
        self.notes.append(f"skipped: {what}: {why}")
        print(f"\n=== skipped: {what}: {why}", flush=True)

    def summary(self):
        print("\n" + "=" * 60)
        for note in sorted(set(self.notes)):
            print(note)
        for failure in self.failures:
            print(f"FAILED: {failure}")
        t = self.totals
        print(f"{t['passed']} passed, {t['failed']} failed, {t['skipped']} skipped")
        return 1 if self.failures or t["failed"] else 0


def apt(packages):
    """Installs Debian packages, as root or with sudo; without either it says so."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if (sudo and not have("sudo")) or not have("apt-get"):
        return f"cannot install {' '.join(packages)}: neither root nor sudo"
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(sudo + command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode and command[1] == "install":
            return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "apt-get failed"
    return None


def install(stages):
    """Debian's chrony for the real-peer test, a Python venv, the npm packages."""
    if not (have("chronyd") or Path("/usr/sbin/chronyd").exists()):
        problem = apt(["chrony"])
        if problem:
            stages.skip("the test against the real chronyd", problem)
    if not (VENV / "bin" / "python").exists():
        stages.run("python venv", [sys.executable, "-m", "venv", VENV], counts=False)
    stages.run(
        "python packages",
        [VENV / "bin" / "pip", "install", "--quiet", "-r", ROOT / "bindings-python" / "requirements-dev.txt"],
        counts=False,
    )
    stages.run("npm packages", ["npm", "ci", "--no-audit", "--no-fund"], cwd=ROOT / "bindings-node", counts=False)


RUST = ["--workspace", "--exclude", "chronotick-python", "--exclude", "chronotick-node", "--exclude", "e2e"]


def rust(stages):
    stages.run("rust", ["cargo", "test", *RUST, "--features", "chronotick-core/writer"])


def onnx(stages):
    """Rate models from ONNX files. Not among ALL: tract takes minutes to build, and nothing else here needs it."""
    stages.run("onnx", ["cargo", "test", "--package", "chronotick-daemon", "--features", "onnx", "models"])


def loom(stages):
    stages.run(
        "loom",
        ["cargo", "test", "--package", "chronotick-core", "--features", "writer", "--release", "--test", "seqlock_loom",
         "--target-dir", TARGET / "loom"],
        env={"RUSTFLAGS": "--cfg loom"},
    )


def miri(stages):
    probe = subprocess.run(["cargo", "+nightly", "miri", "--version"], capture_output=True, cwd=ROOT)
    if probe.returncode:
        stages.skip("Miri", "not here (rustup component add --toolchain nightly miri rust-src)")
        return
    # Every seed is another run of the threads. libm's square root is inline assembly, which Miri cannot run.
    command = ["cargo", "+nightly", "miri", "test", "--package", "chronotick-core", "--target-dir", TARGET / "miri",
               "--features", "writer,libm/force-soft-floats"]
    stages.run("miri, threads", [*command, "--test", "seqlock_threads"], env={"MIRIFLAGS": "-Zmiri-many-seeds=0..32"},
               counts=False)
    stages.run("miri, unit tests", [*command, "--lib", "--", "page::", "bound::"],
               env={"PROPTEST_CASES": "8", "MIRIFLAGS": "-Zmiri-disable-isolation"})


def fuzz(stages):
    if subprocess.run(["cargo", "+nightly", "fuzz", "--version"], capture_output=True, cwd=ROOT).returncode:
        stages.skip("fuzzing", "no nightly toolchain with cargo-fuzz here; the corpus was replayed by other tests")
        return
    for target in ("page", "duration", "ntp_packet", "ntp_exchange", "nts_record", "nts_packet"):
        found = ROOT / "fuzz" / "found" / target
        found.mkdir(parents=True, exist_ok=True)
        stages.run(f"fuzz {target}", ["cargo", "+nightly", "fuzz", "run", target, found, f"corpus/{target}", "--",
                                      "-max_total_time=10", "-verbosity=0"], cwd=ROOT / "fuzz", counts=False)


def go(stages):
    if not have("go"):
        stages.skip("Go", "no go here")
        return
    # cgocheck2 finds every pointer that breaks the rules of cgo.
    env = {"CGO_LDFLAGS": f"-L{TARGET / 'debug'}", "CGO_ENABLED": "1", "GOEXPERIMENT": "cgocheck2"}
    if stages.run("c library", ["cargo", "build", "--package", "chronotick-ffi"], counts=False):
        stages.run("go vet", ["go", "vet", "./..."], cwd=ROOT / "bindings-go", env=env, counts=False)
        stages.run("go", ["go", "test", "-v", "-race", "-count=1", "./..."], cwd=ROOT / "bindings-go", env=env)
    stages.run("go without cgo", ["go", "test", "-v", "-count=1", "./..."], cwd=ROOT / "bindings-go", env={"CGO_ENABLED": "0"})


def python(stages):
    here = ROOT / "bindings-python"
    daemon = TARGET / "debug" / "chronotick-daemon"
    env = {"VIRTUAL_ENV": str(VENV), "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}"}
    stages.run("python's daemon", ["cargo", "build", "--package", "chronotick-daemon"], counts=False)
    if not stages.run("python module", [VENV / "bin" / "maturin", "develop", "--quiet"], cwd=here, env=env, counts=False):
        return
    # The wheel of the tests has the daemon and the module of this build, which is quicker made than one in release.
    wheels = BUILD / "wheels-of-tests"
    shutil.rmtree(wheels, ignore_errors=True)
    made = stages.run(
        "python wheel",
        [VENV / "bin" / "python", "build_backend/chronotick_build.py", "wheel", wheels],
        cwd=here,
        env={**env, "CHRONOTICK_DAEMON": str(daemon), "MATURIN_PEP517_ARGS": "--profile dev"},
        counts=False,
    )
    wheel = {"CHRONOTICK_WHEEL": str(next(wheels.glob("*.whl")))} if made else {}
    stages.run("python", [VENV / "bin" / "python", "-m", "pytest", "-ra", "tests"], cwd=here, env={**env, **wheel})


def node(stages):
    here = ROOT / "bindings-node"
    if stages.run("node module", ["npm", "run", "--silent", "build"], cwd=here, counts=False):
        stages.run("node", ["npm", "test", "--silent"], cwd=here)


def e2e(stages):
    stages.run("programs", ["cargo", "build", "--package", "chronotick-daemon", "--package", "minoots"], counts=False)
    # One at a time: these tests watch the clock, and two cores are soon busy.
    stages.run("e2e", ["cargo", "test", "--package", "e2e", "--no-fail-fast", "--", "--test-threads=1", "--show-output"])


def mcp(stages):
    """The MCP server of timers against the official clients: `minoots mcp`, and `/mcp` of `minoots serve`."""
    stages.run("minoots", ["cargo", "build", "--package", "minoots"], counts=False)
    env = {"MINOOTS_BINARY": str(TARGET / "debug" / "minoots")}
    stages.run("mcp", [VENV / "bin" / "python", "-m", "pytest", "-ra", "tests/mcp"], env=env)


def contract(stages):
    """Schemathesis against `minoots serve`, in a venv of its own: what it needs is nobody else's business."""
    venv, here = BUILD / "venv-contract", ROOT / "tests" / "contract"
    if not (venv / "bin" / "python").exists():
        stages.run("contract venv", [sys.executable, "-m", "venv", venv], counts=False)
    packages = [venv / "bin" / "pip", "install", "--quiet", "-r", here / "requirements.txt"]
    program = ["cargo", "build", "--package", "minoots", "--bin", "minoots"]
    if stages.run("contract packages", packages, counts=False) and stages.run("the service", program, counts=False):
        stages.run("contract", [venv / "bin" / "python", "-m", "pytest", "-ra", "test_contract.py"], cwd=here,
                   env={"CARGO_TARGET_DIR": str(TARGET)})


def conformance(stages):
    stages.run("conformance list is fresh", [sys.executable, "tests/conformance/make_pages.py", "--check"], counts=False)


def lint(stages):
    stages.run("format", ["cargo", "fmt", "--all", "--check"], counts=False)
    stages.run("clippy", ["cargo", "clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"], counts=False)
    stages.run("tidy", ["cargo", "xtask", "tidy"], counts=False)
    conformance(stages)
    stages.run("generated files are fresh", ["cargo", "xtask", "gen", "--check"], counts=False)
    if subprocess.run(["cargo", "deny", "--version"], capture_output=True).returncode == 0:
        stages.run("cargo deny", ["cargo", "deny", "check", "bans", "licenses", "sources"], counts=False)
    else:
        stages.skip("cargo deny", "not installed (cargo install cargo-deny); tidy has checked the licences")


def unit(stages):
    stages.run(
        "unit tests",
        ["cargo", "test", "--quiet", "--lib", "--bins", *RUST, "--features", "chronotick-core/writer"],
    )


ALL = [install, lint, rust, loom, miri, fuzz, go, python, node, mcp, contract, e2e]
CHECK = [lint, unit]
EXTRA = [unit, onnx]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only the fast check")
    parser.add_argument("stages", nargs="*", help="stages to run: " + ", ".join(f.__name__ for f in ALL + EXTRA))
    arguments = parser.parse_args()
    known = {f.__name__: f for f in ALL + EXTRA}
    unknown = [name for name in arguments.stages if name not in known]
    if unknown:
        sys.exit(f"no stage {', '.join(unknown)}: there are {', '.join(known)}")
    chosen = [known[name] for name in arguments.stages] or (CHECK if arguments.check else ALL)
    BUILD.mkdir(exist_ok=True)
    stages = Stages()
    start = time.monotonic()
    for stage in chosen:
        stage(stages)
    print(f"\n{time.monotonic() - start:.0f} s in all")
    sys.exit(stages.summary())


if __name__ == "__main__":
    main()
