#!/bin/sh
# Measures a reading of the clock page in one language: one JSON line for each figure. Part of `cargo xtask bench read`.
#
#   scripts/bench-read.sh c|go|python|node
#
# Everything is built in release. A figure is made on a page that is anchored on the hardware counter, as the daemon chooses
# where it can; its variant with the ending `.vdso` is made on one that is anchored on CLOCK_BOOTTIME. The figures of C are
# named after the anchor both.
set -eu
language=${1:?usage: bench-read.sh c|go|python|node}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
built=${CARGO_TARGET_DIR:-$root/target}/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo build --quiet --release --package chronotick --example bench_page
if [ "$language" != c ] && [ "$language" != go ]; then
    cargo build --quiet --release --package "chronotick-$language"
else
    cargo build --quiet --release --package chronotick-ffi
fi

# Runs a program with a page and the ending of its figures' names, for both pages.
on_both_pages() {
    "$built/examples/bench_page" "$work"
    if [ -e "$work/counter" ]; then
        "$@" "$work/counter" ""
    fi
    "$@" "$work/vdso" .vdso
}

case $language in
c)
    "${CC:-cc}" -O2 -std=c11 -Wall -I include ffi-c/benches/read.c "$built/libchronotick_ffi.a" -lm -lpthread -ldl \
        -o "$work/read"
    "$built/examples/bench_page" "$work"
    for kind in vdso counter; do
        [ ! -e "$work/$kind" ] || "$work/read" "$kind" "$work/$kind"
    done
    ;;
go)
    # Go does not notice a rebuilt library, but a new path of it.
    cp "$built/libchronotick_ffi.a" "$work"
    (cd bindings-go && CGO_LDFLAGS="-L$work" go build -o "$work/read" ./internal/bench)
    on_both_pages "$work/read"
    ;;
python)
    cp -R bindings-python/python/chronotick "$work"
    cp "$built/libchronotick_python.so" "$work/chronotick/_native.abi3.so"
    export PYTHONPATH="$work"
    on_both_pages "${PYTHON:-python3}" bindings-python/benches/read.py
    ;;
node)
    cd bindings-node
    [ -d node_modules ] || npm ci --no-audit --no-fund >&2
    npx napi build --platform --release --output-dir native --js index.js --dts index.d.ts >&2
    npx tsc
    # Node cannot pin itself to a core.
    pin=
    if command -v taskset >/dev/null; then pin="taskset -c $(taskset -cp $$ | sed 's/.*: *\([0-9]*\).*/\1/')"; fi
    # shellcheck disable=SC2086
    on_both_pages $pin node bench/read.mjs
    ;;
*)
    echo "bench-read.sh: no benchmark in $language: c, go, python or node" >&2
    exit 2
    ;;
esac
