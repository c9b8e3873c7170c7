#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh SECONDS - run each target so long with libFuzzer, AddressSanitizer and UBSan
#
# New inputs go to a corpus in build-fuzz/corpus/, from which the next run continues. A find stops
# the run: its input is in build-fuzz/finds/. Once the fault is mended, that input belongs into
# tests/fuzz/corpus/. `run.sh keep` replaces the tree's corpus by as few and as small inputs as
# cover what both corpora cover; it keeps find-*, which may reach what no other input does.
set -euo pipefail
cd "$(dirname "$0")/../.."

dir=build-fuzz
targets=(feed options args cache)

CC=clang scripts/build.sh $dir "${targets[@]/#/tests/fuzz/fuzz_}" -- \
	-Dtests=enabled -Dlibfuzzer=true \
	-Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fsanitize=fuzzer-no-link

export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
mkdir -p $dir/finds

keep()
{
	local target=$1 kept=tests/fuzz/corpus/$1

	rm -rf "$dir/kept"
	mkdir -p "$dir/kept" "$kept"
	"$dir/tests/fuzz/fuzz_$target" -set_cover_merge=1 "$dir/kept" "$kept" \
		"$dir/corpus/$target" 2>"$dir/log"
	cp "$kept"/find-* "$dir/kept" 2>/dev/null || true
	rm -rf "$kept"
	mv "$dir/kept" "$kept"
	echo "$target: $(find "$kept" -type f | wc -l) inputs"
}

# fuzz TARGET [MONITOR]
fuzz()
{
	local target=$1 corpus=$dir/corpus/$1

	mkdir -p "$corpus"
	if ! INVLOCK_FUZZ_MONITOR=${2:-manual} "$dir/tests/fuzz/fuzz_$target" \
		-max_total_time="$seconds" -max_len=400 -timeout=60 -print_final_stats=1 \
		-artifact_prefix="$dir/finds/$target-" \
		"$corpus" "tests/fuzz/corpus/$target" >"$dir/log" 2>&1; then
		grep -v '^#' "$dir/log" >&2
		echo "$target ${2:-}: a find, or the target cannot run: see above" >&2
		exit 1
	fi
	echo "$target ${2:-}: $(awk '/number_of_executed_units/ { print $2 }' "$dir/log") inputs"
}

if [ "${1:-}" = keep ]; then
	for target in "${targets[@]}"; do
		keep "$target"
	done
	exit
fi
seconds=${1:?how many seconds?}
for target in "${targets[@]}"; do
	fuzz "$target"
done
for monitor in uffd bpf; do
	if why=$(INVLOCK_FUZZ_MONITOR=$monitor "$dir/tests/fuzz/fuzz_cache" -runs=0 2>&1); then
		fuzz cache $monitor
	else
		echo "cache $monitor: skipped: $(tail -n 1 <<<"$why")"
	fi
done
