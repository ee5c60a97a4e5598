"""The build backend: maturin, and around it what maturin does not do.

A wheel gets the daemon's program, built by cargo in release, and stripped where there is a `strip`. An sdist gets the
daemon's sources and every crate that the build needs, so that it builds without a network: it wants Rust, a C compiler
and maturin, nothing else. An editable install is maturin's alone and is made quickly; its daemon is whatever
`cargo build` last made in the clone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import maturin

HERE = Path(__file__).resolve().parent.parent
# The clone's top, or the sdist's.
TOP = next(up for up in (HERE, *HERE.parents) if (up / "Cargo.lock").exists())
PLACE = HERE / "python" / "chronotick" / "_bin"
PROGRAM = "chronotick-daemon"
# Besides the module's own, which maturin takes along.
CRATES = ("daemon/clockd", "daemon/discipline", "daemon/ntp", "daemon/evaluation")
FILES = ("rust-toolchain.toml", "clippy.toml", "LICENSE-APACHE", "LICENSE-MIT")
# What a crate may have besides its sources; the build needs none of it.
LEFT_OUT = shutil.ignore_patterns("target", "__pycache__", "corpus", "proptest-regressions")
# Crates of other systems are in the lock file, and cargo wants to see their manifests, but never their code.
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl")

get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
get_requires_for_build_editable = maturin.get_requires_for_build_editable
prepare_metadata_for_build_wheel = maturin.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = maturin.prepare_metadata_for_build_editable
build_editable = maturin.build_editable


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Puts the daemon into the package, then makes the wheel."""
    place_daemon()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def place_daemon():
    """Builds the daemon, or takes the one that $CHRONOTICK_DAEMON names, and copies it to where maturin takes it from."""
    PLACE.mkdir(exist_ok=True)
    placed = PLACE / PROGRAM
    built = os.environ.get("CHRONOTICK_DAEMON") or build_daemon()
    shutil.copy2(built, placed)
    if shutil.which("strip"):
        subprocess.run(["strip", placed], check=True)


def build_daemon():
    command = ["cargo", "build", "--release", "--package", PROGRAM, "--manifest-path", TOP / "Cargo.toml"]
    subprocess.run([*command, "--message-format=json-render-diagnostics"], check=True, stdout=subprocess.DEVNULL)
    return Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")) / "release" / PROGRAM


def build_sdist(sdist_directory, config_settings=None):
    """maturin's sdist with the daemon's crates and the vendored ones."""
    name = maturin.build_sdist(sdist_directory, config_settings)
    made = Path(sdist_directory) / name
    with tempfile.TemporaryDirectory() as work:
        with tarfile.open(made) as archive:
            archive.extractall(work)
        (top,) = Path(work).iterdir()
        complete(top)
        with tarfile.open(made, "w:gz", compresslevel=9) as archive:
            archive.add(top, top.name, filter=anonymous)
    return name


def complete(top):
    """Adds to an unpacked sdist of maturin what the daemon's build needs."""
    shutil.copytree(HERE / "build_backend", top / "build_backend", ignore=LEFT_OUT)
    shutil.rmtree(top / "bindings-python" / "build_backend", ignore_errors=True)
    for crate in CRATES:
        shutil.copytree(TOP / crate, top / crate, ignore=LEFT_OUT, dirs_exist_ok=True)
    for file in FILES:
        shutil.copy2(TOP / file, top / file)
    add_members(top / "Cargo.toml")
    shutil.copy2(TOP / "Cargo.lock", top / "Cargo.lock")
    # Drops from the lock file what only the rest of the repository needs.
    cargo_json(top, "metadata", "--format-version", "1")
    vendor = top / "vendor"
    source = subprocess.run(["cargo", "vendor", "--versioned-dirs", vendor], cwd=top, check=True, capture_output=True)
    (top / ".cargo").mkdir(exist_ok=True)
    config = source.stdout.decode().replace(str(vendor), "vendor")
    (top / ".cargo" / "config.toml").write_text(config)
    needed = needed_here(top)
    for crate in vendor.iterdir():
        # Of another system, or of a feature that the wheel does not have.
        if crate.name not in needed:
            empty(crate)
    (top / "SOURCES.md").write_text(
        "# What this needs to build\n\nRust (rustc and cargo, the version in `rust-toolchain.toml` or newer), a C compiler and "
        "maturin; no network, since every crate is in `vendor/`. Crates of other operating systems are there with their "
        "manifests only.\n\n    pip install maturin\n    pip install --no-build-isolation .\n"
    )


def add_members(manifest):
    """Names the daemon's crates in the workspace, and makes them known to each other."""
    text = manifest.read_text()
    whole = (TOP / "Cargo.toml").read_text()
    members = re.search(r"^members = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    kept = re.findall(r'"([^"]+)"', members.group(1))
    every = ", ".join(json.dumps(member) for member in dict.fromkeys([*kept, *CRATES]))
    text = text[: members.start()] + f"members = [{every}]" + text[members.end() :]
    text = re.sub(r"^default-members = .*\n", "", text, flags=re.MULTILINE)
    for line in re.findall(r"^chronotick-(?:discipline|ntp|evaluation) = .*$", whole, re.MULTILINE):
        if line not in text:
            text = text.replace("[workspace.dependencies]\n", f"[workspace.dependencies]\n{line}\n", 1)
    manifest.write_text(text)


def needed_here(top):
    """The crates of the builds for our systems, as their directories are called."""
    needed = set()
    for target in TARGETS:
        metadata = cargo_json(top, "metadata", "--format-version", "1", "--filter-platform", target)
        used = {node["id"] for node in metadata["resolve"]["nodes"]}
        needed |= {f"{p['name']}-{p['version']}" for p in metadata["packages"] if p["id"] in used}
    return needed


def empty(crate):
    """Leaves of a vendored crate its manifest and the name of its library."""
    for entry in crate.iterdir():
        if entry.name not in ("Cargo.toml", ".cargo-checksum.json"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    manifest = (crate / "Cargo.toml").read_text()
    for path in {"src/lib.rs", "build.rs", *re.findall(r'^(?:path|build) = "([^"]+\.rs)"', manifest, re.MULTILINE)}:
        (crate / path).parent.mkdir(parents=True, exist_ok=True)
        (crate / path).write_text("")
    checksum = json.loads((crate / ".cargo-checksum.json").read_text())
    (crate / ".cargo-checksum.json").write_text(json.dumps({"files": {}, "package": checksum["package"]}))


def cargo_json(top, *arguments):
    done = subprocess.run(["cargo", *arguments], cwd=top, check=True, capture_output=True)
    return json.loads(done.stdout)


def anonymous(entry):
    """The archive tells nothing of the machine that made it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def tag():
    """The manylinux tag of the oldest C library that the daemon runs with; `linux` where it uses another one."""
    versions = re.findall(rb"GLIBC_2\.(\d+)", (PLACE / PROGRAM).read_bytes())
    return f"manylinux_2_{max(map(int, versions))}" if versions else "linux"


def main():
    """`chronotick_build.py wheel|sdist DIRECTORY`: the same without pip, which would want a network for its isolation."""
    builders = {"wheel": build_wheel, "sdist": build_sdist}
    if len(sys.argv) != 3 or sys.argv[1] not in builders:
        sys.exit("usage: chronotick_build.py wheel|sdist DIRECTORY")
    directory = Path(sys.argv[2]).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    os.chdir(HERE)
    if sys.argv[1] == "wheel":
        place_daemon()
        # maturin looks at the module alone: the tag must be true of the daemon too.
        os.environ["MATURIN_PEP517_ARGS"] = f"--compatibility {tag()} {os.environ.get('MATURIN_PEP517_ARGS', '')}"
    print(directory / builders[sys.argv[1]](str(directory)))


if __name__ == "__main__":
    main()
