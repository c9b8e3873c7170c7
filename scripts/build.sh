#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# build.sh DIR [TARGET...] [-- MESON-OPTION...] - configure DIR with these options, and build
#
# Prints nothing of the build unless it fails; then it prints the whole log.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$1
shift
targets=()
while [ $# != 0 ] && [ "$1" != -- ]; do
	targets+=("$1")
	shift
done
[ $# = 0 ] || shift

log=$(mktemp)
trap 'rm -f "$log"' EXIT

quietly()
{
	if ! "$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		echo "build.sh: this failed: $*" >&2
		exit 1
	fi
}

# On a Debian without dpkg-dev Meson installs into lib64, where neither the dynamic linker nor
# pkg-config looks.
libdir=()
if [ -e /etc/debian_version ] && ! command -v dpkg-architecture >/dev/null; then
	libdir=("--libdir=lib/$(gcc -print-multiarch)")
fi

if [ ! -e "$dir/build.ninja" ]; then
	echo "configuring $dir"
	quietly meson setup "$dir" "${libdir[@]}" "$@"
elif [ $# != 0 ]; then
	quietly meson configure "$dir" "$@"
fi
echo "building $dir"
quietly ninja -C "$dir" "${targets[@]}"
