#!/bin/sh
# Builds the Python sdist, and from it alone a wheel: offline, with an empty cargo home, so that a crate that is missing
# from the archive is an error. Takes minutes, since the daemon is built in release.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
make --silent sdist
sdist=$(ls -t build/wheels/chronotick-*.tar.gz | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/home"
# rustup's rustc is found through the directory that it was installed in.
RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} CARGO_HOME=$work/home CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=$work/target \
    PATH="$root/build/venv/bin:$PATH" \
    "$root/build/venv/bin/pip" wheel --quiet --no-build-isolation --no-deps --no-index --no-cache-dir -w "$work" "$sdist"
python3 -m zipfile -l "$work"/chronotick-*.whl >"$work/list"
grep -q chronotick/_bin/chronotick-daemon "$work/list"
echo "$sdist builds offline: $(basename "$work"/chronotick-*.whl)"
