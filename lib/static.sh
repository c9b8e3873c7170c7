#!/bin/sh
# SPDX-License-Identifier: MIT
#
# static.sh LD OBJCOPY AR MAP ARCHIVE OUTPUT - an archive that shows what the shared library shows
#
# One object in which all names but those in MAP are local: a program that links it may call
# its own functions what it likes.
set -eu

ld=$1
objcopy=$2
ar=$3
map=$4
archive=$5
output=$6
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sed -n 's/^[[:space:]]*\(invlock_[a-z_]*\);.*/\1/p' "$map" >"$work/names"
"$ld" -r -o "$work/invlock.o" --whole-archive "$archive"
"$objcopy" --keep-global-symbols="$work/names" "$work/invlock.o"
rm -f "$output"
"$ar" rcs "$output" "$work/invlock.o"
