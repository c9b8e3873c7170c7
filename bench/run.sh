#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh BUILD [--quick] - build and run every measurement, one after the other
#
# The results are in BUILD/bench-results, one file a question; docs/performance.md and its
# plots are made from them. --quick only shows that all of it runs, and writes no page.
# A question that cannot be measured here is named, and makes the run fail at its end.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

build=$1
quick=${2:-}
results=$build/bench-results
questions=(hit hit_beside lines miss memory invalidate lock watch direct_io false)
failed=()

ninja -C "$build" "${questions[@]/#/bench/}" bench/libfalse_watch.so >/dev/null || exit 1
rm -rf "$results"
mkdir -p "$results"
printf '{"load": "%s"}\n' "$(cut -d' ' -f1 /proc/loadavg)" >"$results/load.json"

for question in "${questions[@]}"; do
	echo "measuring: $question"
	# more than any takes: what hangs is to fail
	if ! timeout 240 "$build/bench/$question" ${quick:+"$quick"} \
	     >"$results/$question.json"; then
		rm "$results/$question.json"
		failed+=("$question")
	fi
done
bench/report.py "$results" || exit 1
if [ -z "$quick" ]; then
	bench/report.py "$results" --doc bench/performance.md.in docs/performance.md || exit 1
	echo "written: docs/performance.md and docs/performance/"
fi
if [ ${#failed[@]} != 0 ]; then
	echo "not measured: ${failed[*]}" >&2
	exit 1
fi
