#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh BUILD [--quick] - build and run every measurement, one after the other
#
# BUILD/bench-results gets a file for each question. report.py makes docs/performance.md and its
# plots from these files. With --quick, the measurements only show that they run, and no page is
# written. If a question cannot be measured on this machine, the script names it and fails at its
# end.
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
	# no measurement takes this long, unless it hangs
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
