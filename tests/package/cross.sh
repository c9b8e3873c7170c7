#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# cross.sh [-s SUITE] - build for other architectures, run what can be run, and print TAP
#
# The root (roots.sh) has Debian's cross compilers and the libraries of each architecture. In it the
# library, the io_uring adapter and the command are built without bpf; any warning is an error.
# Under user emulation the tests of core and lib run, on one machine of each byte order: what they
# say goes to build/results/cross-*.json. Then the library is built with musl. No kernel of these
# machines runs, and emulation on x86-64 hides what a weaker memory order would show.
# shellcheck source=tests/package/roots.sh
. "$(dirname "$0")/roots.sh"

results=$root/build/results
architectures=(arm64 ppc64el s390x riscv64)
# Debian 12 has a compiler for it and no libraries: there the library is all that is built
bare=riscv64
emulated=(arm64 s390x)	# little endian, big endian

packages()
{
	packages_of cross
	for architecture in "${architectures[@]}"; do
		[ "$architecture" = $bare ] ||
			printf "%s:$architecture\n" libc6-dev libcmocka-dev liburing-dev \
				libjson-c-dev
	done
}

begin()
{
	enter_root cross && copy_source cross /src/invlock
}

within()	# COMMAND...
{
	in_source cross "$@"
}

builds()	# ARCHITECTURE
{
	local options=(-Dbpf=disabled -Dtests=disabled)

	[ "$1" != $bare ] || options+=(-During=disabled)
	within meson setup --cross-file "scripts/cross/$1.ini" "${options[@]}" "build-$1" &&
	within ninja -C "build-$1"
}

# The tests of core and lib, as names for `meson test`. QEMU 7.2 says that it wipes memory on fork
# and does not, and passes on no question about mappings: the tests of these are left out.
test_names()	# ARCHITECTURE
{
	within meson introspect --tests "build-$1" |
		python3 -c '
import json, sys
for test in json.load(sys.stdin):
    if test["name"].startswith(("core-", "lib-")) and not test["name"].endswith(
            ("-no_check", "lib-fork", "lib-mapping", "lib-reap")):
        print(test["name"])'
}

runs()	# ARCHITECTURE
{
	local names log=$work/cross/merged/src/invlock/build-$1/meson-logs/testlog-cross

	# then the list of tests is made anew
	within meson configure -Dtests=auto "build-$1" && within ninja -C "build-$1" build.ninja &&
	mapfile -t names < <(test_names "$1") && [ ${#names[@]} != 0 ] || return
	# which of them fail is for the tally to say
	within meson test -C "build-$1" --logbase testlog-cross "${names[@]}"
	mkdir -p "$results" && mv "$log"*.json "$results/cross-$1.json"
}

# Debian's wrapper finds no header of the kernel
musl_builds_and_runs()
{
	local src=$work/cross/merged/src/invlock

	mkdir -p "$src/build-musl/headers" &&
	ln -s /usr/include/linux /usr/include/asm-generic /usr/include/x86_64-linux-gnu/asm \
		"$src/build-musl/headers" &&
	within env CC=musl-gcc meson setup -Dbpf=disabled -During=disabled -Dtests=disabled \
		-Dc_args="-idirafter /src/invlock/build-musl/headers" build-musl/b &&
	within ninja -C build-musl/b &&
	within musl-gcc -Iinclude -Iinclude/uapi -idirafter build-musl/headers \
		-o build-musl/program tests/package/program.c -Lbuild-musl/b/lib -linvlock \
		-Wl,-rpath,/src/invlock/build-musl/b/lib &&
	within build-musl/program
}

rm -f "$results"/cross-*
foreign=$(printf ',%s' "${architectures[@]/$bare/}" | sed 's/,$//')
base_root cross "$(packages | paste -sd ,)" "amd64$foreign" > "$work/log" 2>&1 ||
	bail_out "the root with cross compilers is not made"
begin > "$work/log" 2>&1 || bail_out "the root with cross compilers is not ready"
echo "TAP version 13"
echo "1..$((1 + ${#architectures[@]} + ${#emulated[@]}))"
for architecture in "${architectures[@]}"; do
	try "$architecture: it builds without bpf" builds "$architecture"
done
for architecture in "${emulated[@]}"; do
	try "$architecture: the tests of core and lib run under emulation" runs "$architecture"
done
try "musl: the library builds without bpf, and a program uses it and forks" musl_builds_and_runs
exit "$failed"
