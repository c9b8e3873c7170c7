#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh BUILD - build and run every measurement, one after the other
set -eu
ninja -C "$1" bench/hit bench/watch >/dev/null
for name in hit watch; do
	echo "== $name"
	"$1/bench/$name"
done
