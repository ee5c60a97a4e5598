#!/bin/sh
# Installs the C library: header, static and shared library, pkg-config file.
#
#   scripts/install-c.sh [PREFIX]        PREFIX is /usr/local unless given; DESTDIR is put in front of what is written.
#
# Builds the library in release first, unless CHRONOTICK_BUILT names a directory that has it.
set -eu
prefix=${1:-/usr/local}
root=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
built=${CHRONOTICK_BUILT:-}
if [ -z "$built" ]; then
    (cd "$root" && cargo build --release --package chronotick-ffi)
    built=${CARGO_TARGET_DIR:-$root/target}/release
fi

to=${DESTDIR:-}$prefix
mkdir -p "$to/include" "$to/lib/pkgconfig"
install -m 644 "$root/include/chronotick.h" "$to/include/chronotick.h"
install -m 644 "$built/libchronotick_ffi.a" "$to/lib/libchronotick.a"
# A running program keeps the file it has mapped: a new one gets the name.
install -m 755 "$built/libchronotick_ffi.so" "$to/lib/libchronotick.so.$version.new"
mv "$to/lib/libchronotick.so.$version.new" "$to/lib/libchronotick.so.$version"
ln -sf "libchronotick.so.$version" "$to/lib/libchronotick.so.0"
ln -sf libchronotick.so.0 "$to/lib/libchronotick.so"
sed -e "s|@PREFIX@|$prefix|" -e "s|@VERSION@|$version|" "$root/ffi-c/chronotick.pc.in" \
    > "$to/lib/pkgconfig/chronotick.pc"
echo "installed libchronotick $version in $to"
