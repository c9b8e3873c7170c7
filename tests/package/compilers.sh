#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# compilers.sh [-s SUITE] - build with every compiler of a Debian, and print TAP
#
# The root (roots.sh) has every gcc and every clang of the suite. With each of them the library, the
# command, the daemon and the BPF programs of both architectures are built, where any warning is an
# error, and a few quick tests run. A clang also compiles the BPF programs, which the kernel of this
# machine then has to accept; beside a gcc that is done by the suite's own clang. What the tests say
# goes to build/results/compilers-SUITE-COMPILER.json. INVLOCK_COMPILERS="gcc-12 clang-14" runs
# these alone.
# shellcheck source=tests/package/roots.sh
. "$(dirname "$0")/roots.sh"

results=$root/build/results
bpf_tests='bpf/test_bpf_(calls|verifier)'

packages()
{
	packages_of make build
	# patterns of apt's: all packages with such a name
	printf '%s\n' libcmocka-dev '?name(^gcc-[0-9]+$)' '?name(^clang-[0-9]+$)'
}

begin()
{
	enter_root compilers && copy_source compilers /src/invlock
}

within()	# COMMAND...
{
	in_source compilers "$@"
}

compilers()
{
	# clang 14 is the oldest that will do
	within sh -c 'cd /usr/bin && ls' | sort -V |
		grep -E '^(gcc-[0-9]+|clang-(1[4-9]|[2-9][0-9]))$' |
		grep -xE "$(echo "${INVLOCK_COMPILERS:-.*}" | tr ' ' '|')"
}

# prints the targets: what is installed, the BPF programs of each architecture, and the tests
targets()	# DIR
{
	within meson introspect --targets "$1" | python3 -c '
import json, os, re, sys
for target in json.load(sys.stdin):
    path = os.path.relpath(target["filename"][0], "/src/invlock/" + sys.argv[1])
    built = target["installed"] and target["type"] in ("executable", "shared library")
    if built or re.fullmatch(sys.argv[2], path):
        print(path)' "$1" \
		"lib/libinvlock.a|bpf/invlock.*o|tests/(core/.*|lib/test_lib_cache|$bpf_tests)"
}

builds_and_runs()	# COMPILER
{
	local dir=build-$1 src=$work/compilers/merged/src/invlock all tests status

	{
		echo "[binaries]"
		echo "c = '$1'"
		[[ $1 != clang-* ]] || echo "clang = '$1'"
	} > "$src/$dir.ini"
	within meson setup --native-file "$dir.ini" -Dtests=enabled "$dir" || return
	mapfile -t all < <(targets "$dir")
	mapfile -t tests < <(printf '%s\n' "${all[@]}" |
		sed -n 's,^tests/.*/test_\([a-z]*\)_,\1-,p')
	[ ${#tests[@]} != 0 ] && within ninja -C "$dir" "${all[@]}" &&
	within meson test -C "$dir" --no-rebuild --print-errorlogs "${tests[@]}"
	status=$?
	mkdir -p "$results" && cp "$src/$dir"/meson-logs/testlog.json \
		"$results/compilers-$suite-$1.json"
	rm -rf "${src:?}/$dir"
	return "$status"
}

rm -f "$results"/compilers-"$suite"-*
base_root compilers "$(packages | paste -sd ,)" > "$work/log" 2>&1 ||
	bail_out "the root with compilers is not made"
begin > "$work/log" 2>&1 || bail_out "the root with compilers is not ready"
mapfile -t all < <(compilers)
[ ${#all[@]} != 0 ] || bail_out "no compiler is called so"
echo "TAP version 13"
echo "1..${#all[@]}"
for compiler in "${all[@]}"; do
	echo "# $(within "$compiler" --version | head -n 1)"
	try "$suite: $compiler builds it, and the tests pass" builds_and_runs "$compiler"
done
exit "$failed"
