#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test.sh quick|all [TIER...] - run the tests and count them
#
# A tier is one way to run tests; CONTRIBUTING.md describes them. `all` runs every tier in the list
# below, or only the named ones; `quick` runs only the quick tests of the plain tier. The last line
# is the count over all tiers. The output of a tier is in build/results/TIER.log.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

results=build/results
host_tiers=(lint plain asan tsan valgrind jemalloc mimalloc tcmalloc trixie cross)
# the longest first, since two guests run at a time
guest_tiers=(vm newest suites newest_full arm64 rdma lockdown)
every_tier=("${host_tiers[@]}" "${guest_tiers[@]}")
# parts that allocate, hook or race, so that another allocator may upset them
allocator_areas="lib bpf uffd race uring"

# the quick tests that are compiled programs, by folder of tests/, as names for `meson test`; or,
# with a third argument, as targets of the build
programs_of()
{
	local dir=$1 areas=$2 targets=${3:-}

	meson introspect --tests "$dir" | python3 -c '
import json, os, sys
areas = sys.argv[1].split()
for test in json.load(sys.stdin):
    folder = os.path.basename(os.path.dirname(test["cmd"][0]))
    program = "/build" in test["cmd"][0]
    quick = any(s.endswith(":quick") for s in test["suite"])
    if program and quick and (not areas or folder in areas):
        print(os.path.relpath(test["cmd"][0], sys.argv[2]) if sys.argv[3] else test["name"])
' "$areas" "$(realpath "$dir")" "$targets"
}

build()
{
	local dir=$1

	shift
	scripts/build.sh "$dir" -- -Dtests=enabled "$@"
}

# meson_test TIER DIR ARGUMENT... - the results go to $results/TIER.json
meson_test()
{
	local tier=$1 dir=$2

	shift 2
	rm -f "$dir"/meson-logs/testlog-"$tier"*.json
	INVLOCK_TEST_TIER=$tier meson test -C "$dir" --no-rebuild --logbase "testlog-$tier" "$@"
	# with a wrapper, its name is part of the file's name
	mv "$dir"/meson-logs/testlog-"$tier"*.json "$results/$tier.json"
}

# some_tests TIER DIR AREAS ARGUMENT... - quick programs of these folders; no AREAS means all
some_tests()
{
	local tier=$1 dir=$2 names

	mapfile -t names < <(programs_of "$dir" "$3")
	shift 3
	if [ ${#names[@]} = 0 ]; then
		echo "no quick test to run"
		return
	fi
	meson_test "$tier" "$dir" "$@" "${names[@]}"
}

tier_plain()
{
	build build && meson_test plain build --no-suite proof
}

# may take hours: runs only when it is named
tier_proof()
{
	build build && meson_test proof build --suite proof
}

tier_quick()
{
	build build && meson_test quick build --suite quick
}

# What tells most about another system, in the shortest time: tests/package/within.sh runs it.
tier_brief()
{
	local areas="core lib uffd bpf" targets

	scripts/build.sh build build.ninja -- -Dtests=enabled &&
	mapfile -t targets < <(programs_of build "$areas" targets) &&
	scripts/build.sh build "${targets[@]}" && some_tests brief build "$areas"
}

tier_trixie()
{
	tests/package/within.sh -s trixie >"$results/trixie.tap"
}

tier_cross()
{
	tests/package/cross.sh >"$results/cross.tap"
}

tier_lint()
{
	scripts/lint.py >"$results/lint.tap"
}

tier_asan()
{
	build build-asan -Db_sanitize=address,undefined || return
	# LeakSanitizer's search of thread-local storage reads below blocks that malloc did not
	# make: it crashes at a stack that was handed to pthread_create(). It only finds leaks
	# through TLS of libraries that were loaded with dlopen().
	ASAN_OPTIONS=detect_stack_use_after_return=1:intercept_tls_get_addr=0 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		some_tests asan build-asan ""
}

tier_tsan()
{
	build build-tsan -Db_sanitize=thread || return
	# Forked children start threads. ThreadSanitizer allows that, but watches them less well.
	TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:die_after_fork=0 \
		some_tests tsan build-tsan "" --wrap "$(without_aslr)"
}

# This version of TSan wants its shadow memory at addresses that a kernel with much randomness uses.
without_aslr()
{
	if setarch -R true 2>/dev/null; then
		echo "setarch -R"
	else
		echo env
	fi
}

tier_valgrind()
{
	build build || return
	some_tests valgrind build "core lib" --wrap "valgrind --quiet --error-exitcode=99 \
		--leak-check=full --errors-for-leak-kinds=definite"
}

# with_allocator TIER LIBRARY SETTING: the settings give memory back at once, so that it really goes
with_allocator()
{
	if [ -n "$(LD_PRELOAD=$2 /bin/true 2>&1)" ]; then
		echo "$2 cannot be preloaded"
		return
	fi
	build build && some_tests "$1" build "$allocator_areas" --wrap "env LD_PRELOAD=$2 $3"
}

tier_jemalloc()
{
	with_allocator jemalloc libjemalloc.so.2 MALLOC_CONF=dirty_decay_ms:0,muzzy_decay_ms:0
}

tier_mimalloc()
{
	local library=libmimalloc.so.2	# of Debian 12

	[ -z "$(LD_PRELOAD=$library /bin/true 2>&1)" ] || library=libmimalloc.so.3
	with_allocator mimalloc "$library" "MIMALLOC_RESET_DELAY=0 MIMALLOC_DECOMMIT_DELAY=0"
}

tier_tcmalloc()
{
	with_allocator tcmalloc libtcmalloc_minimal.so.4 TCMALLOC_RELEASE_RATE=10000
}

# guest TIER ARGUMENT... - tests in a virtual machine
guest()
{
	tests/vm/run.sh "${@:2}" >"$results/$1.tap" </dev/null
}

tier_vm()
{
	guest vm
}

tier_suites()
{
	guest suites -w suites
}

tier_lockdown()
{
	guest lockdown -w lockdown
}

tier_rdma()
{
	guest rdma -w rdma
}

tier_arm64()
{
	guest arm64 -k arm64 -w short
}

tier_newest()
{
	guest newest -w suites -k newest
}

tier_newest_full()
{
	guest newest_full -w guard -k newest
}

# A tier that leaves no results counts as one failure, with the end of its log.
run_tier()
{
	local tier=$1 start=$SECONDS files counted

	: >"$results/$tier.log"
	"tier_$tier" >"$results/$tier.log" 2>&1
	mapfile -t files < <(results_of "$tier")
	counted=$(scripts/tally.py "${files[@]}")
	echo "$tier: ${counted##*$'\n'} ($((SECONDS - start)) s)"
	# at once, too: whoever ends the run before its end wants to know
	sed -n '/^Failed:$/,$ { /^ /p }' <<<"$counted"
	[ -s "${files[0]}" ] || tail -n 30 "$results/$tier.log"
}

# the files that a tier has left: TIER.json or TIER.tap, and of what ran in another root TIER-*
results_of()
{
	local files

	mapfile -t files < <(compgen -G "$results/$1.[jt][sa]*"; compgen -G "$results/$1-*")
	if [ ${#files[@]} = 0 ]; then
		echo "$results/$1.tap"
	else
		printf '%s\n' "${files[@]}"
	fi
}

# Guests run two at a time: each has two CPUs, but seldom uses both of them.
run_tiers()
{
	local tier running=0

	for tier; do
		if [[ " ${guest_tiers[*]} " != *" $tier "* ]]; then
			run_tier "$tier"
			continue
		fi
		if [ $running = 2 ]; then
			wait -n
			running=1
		fi
		run_tier "$tier" &
		running=$((running + 1))
	done
	wait
}

main()
{
	local mode=${1:-all} tier files=()
	local tiers=("${@:2}")

	if [ "$mode" = quick ]; then
		tiers=(quick)
	elif [ "$mode" != all ]; then
		echo "usage: test.sh quick|all [TIER...]; tiers: ${every_tier[*]} proof" >&2
		exit 2
	elif [ ${#tiers[@]} = 0 ]; then
		tiers=("${every_tier[@]}")
	fi
	rm -rf "$results"
	mkdir -p "$results"
	run_tiers "${tiers[@]}"
	for tier in "${tiers[@]}"; do
		mapfile -t -O ${#files[@]} files < <(results_of "$tier")
	done
	scripts/tally.py "${files[@]}"
}

main "$@"
