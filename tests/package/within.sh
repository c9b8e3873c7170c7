#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# within.sh [-s SUITE] - run the tests in a root of another Debian, and print TAP
#
# The root (roots.sh) has the packages that `make test` needs. In it `make run` has to prove with
# the bpf monitor, and a program links the library statically. Then the tiers in TIERS run: if there
# are none, the quick tests of core, lib, uffd and bpf. What they say goes to
# build/results/SUITE-TIER.*, for scripts/tally.py to count. The kernel is that of this machine.
# shellcheck source=tests/package/roots.sh
. "$(dirname "$0")/roots.sh"

results=$root/build/results
read -ra tiers <<< "${TIERS:-brief}"

packages()
{
	packages_of make build test lint model | sort -u | paste -sd ,
}

begin()
{
	local src=$work/test/merged/src/invlock

	# direct I/O needs a disk
	enter_root test && mkdir -p "$src" "$disk/src" && mount --bind "$disk/src" "$src" &&
	copy_source test /src/invlock &&
	mkdir "$disk/tmp" && chmod 1777 "$disk/tmp" &&
	mount --bind "$disk/tmp" "$work/test/merged/var/tmp"
}

within()	# COMMAND...
{
	in_source test env "${settings[@]}" "$@"
}

proves_with_bpf()
{
	within make run ARGS="--monitor bpf --seconds 5"
}

# as README.md says, with what pkg-config finds in the build folder
link_program()	# OPTION...
{
	within sh -c '
		export PKG_CONFIG_PATH=build/meson-uninstalled
		cc -O2 -pthread "$@" -o build/static examples/section.c $(
			pkg-config --static --cflags --libs invlock |
			sed s/-linvlock/-l:libinvlock.a/)' sh "$@"
}

# Debian 13's libelf.a lacks functions that it calls, so that no program can be linked with it
links_statically()
{
	local said=$work/static

	within scripts/build.sh build lib/libinvlock.a || return
	if link_program -static > "$said" 2>&1; then
		! within readelf -lW build/static | grep INTERP || return
	else
		cat "$said"
		grep -q eu_search_tree_init "$said" && link_program || return
	fi
	within build/static | tee "$said" && grep -q " 0 wrong" "$said"
}

run_tests()
{
	local result

	within scripts/test.sh all "${tiers[@]}"
	mkdir -p "$results"
	for result in "$work/test/merged/src/invlock/build/results"/*.{json,tap}; do
		[ ! -e "$result" ] || cp "$result" "$results/$suite-$(basename "$result")"
	done
	# which of them failed is for the tally to say
	compgen -G "$results/$suite-*" > /dev/null
}

# what a user may set for a build
settings=(CC="${CC:-cc}")
disk=$(mktemp -d /var/tmp/invlock-within.XXXXXX)
trap 'umount -l "$work"/*/merged "$work" 2> /dev/null; rm -rf "$work" "$disk"' EXIT
rm -f "$results/$suite"-*
base_root test "$(packages)" > "$work/log" 2>&1 || bail_out "the root for tests is not made"
begin > "$work/log" 2>&1 || bail_out "the root for tests is not ready"
echo "TAP version 13"
echo "1..3"
try "$suite: make run proves with the bpf monitor" proves_with_bpf
try "$suite: a program links the library statically" links_statically
try "$suite: the tests can be built and run" run_tests
exit "$failed"
