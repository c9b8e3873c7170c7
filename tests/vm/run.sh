#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Boots a Debian kernel under QEMU, loads invlock.ko, runs the guest's tests and prints
# what they say as TAP. Green only if the guest says so itself, at its very end.
#
#   tests/vm/run.sh [-k 6.1|6.12] [-n NAME] [-q] [-b]
#	-k	the kernel; 6.1 unless told otherwise
#	-n	only the test programs whose name contains NAME
#	-q	without the planted failures
#	-b	measure instead: print the JSON of bench/kernel's programs
#
# Kernels are cached in $INVLOCK_CACHE, or $XDG_CACHE_HOME/invlock, or /var/cache/invlock.
# Exit status: 0 green, 1 red, 77 skipped with the reason.
set -u -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
kernel=6.1
only=
planted=1
measure=0
while getopts k:n:qb option; do
	case $option in
	k) kernel=$OPTARG ;;
	n) only=$OPTARG ;;
	q) planted=0 ;;
	b) planted=0 measure=1 ;;
	*) sed -n '6,14s/^# \?//p' "$0" >&2; exit 2 ;;
	esac
done

skip()
{
	echo "1..0 # SKIP the kernel tests: $*"
	exit 77
}

fail()
{
	echo "Bail out! $*"
	exit 1
}

# without a warning, or not at all
build()	# FUNCTION WHAT
{
	if ! "$1" > "$work/build.log" 2>&1 || grep -qi 'warning:' "$work/build.log"; then
		cat "$work/build.log"
		fail "$2 does not build cleanly"
	fi
}

work=$(mktemp -d "${TMPDIR:-/tmp}/invlock-vm.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

# shellcheck source=tests/vm/kernel.sh
. "$here/kernel.sh"
# shellcheck source=tests/vm/guest.sh
. "$here/guest.sh"

[ "$(uname -m)" = x86_64 ] || skip "they run on x86_64 only, this is $(uname -m)"
need_tools
kernel_get "$kernel"
build module_build "invlock.ko for $kernel_version"
build guest_programs "the guest's tests"
build guest_tool "the command"
guest_pack

echo "# kernel $kernel_version"
guest_options="only=$only planted=$planted measure=$measure"
# cx16=off: QEMU 7.2 with CX16 crashes newer kernels at random; no_timer_check: on a busy machine
# the emulated timer comes too late for the kernel's check of it, which then panics
timeout -k 5 300 qemu-system-x86_64 -accel tcg,thread=multi -cpu max,cx16=off \
	-smp 2,sockets=2 -m 1G \
	-object memory-backend-ram,id=m0,size=512M \
	-object memory-backend-ram,id=m1,size=512M \
	-numa node,nodeid=0,memdev=m0,cpus=0 -numa node,nodeid=1,memdev=m1,cpus=1 \
	-nodefaults -no-user-config -display none -no-reboot \
	-serial "file:$work/console" -serial "file:$work/results" \
	-device isa-debug-exit,iobase=0xf4,iosize=0x04 \
	-kernel "$kernel_image" -initrd "$work/initrd" \
	-append "console=ttyS0 panic=-1 oops=panic loglevel=4 no_timer_check $guest_options" \
	< /dev/null
status=$?

tr -d '\r' < "$work/results" > "$work/tap"
if [ $measure = 1 ]; then
	grep -v '^#' "$work/tap"
	[ $status -eq 33 ] || fail "the guest did not end well (QEMU's status is $status)"
	exit 0
fi
# each program of the guest says how many tests it has; what is printed here has one plan
grep -v '^1\.\.' "$work/tap"
want=$(awk -F'\\.\\.' '/^1\.\.[0-9]+/ { n += $2 } END { print n + 0 }' "$work/tap")
echo "1..$want"
good=$(grep -c '^ok ' "$work/tap")
bad=$(grep -c '^not ok ' "$work/tap")
skipped=$(grep -c '^ok .*# SKIP' "$work/tap")
echo "# kernel $kernel: $((good + bad)) of $want tests ran, $bad failed, $skipped skipped"

# 33 is what the guest's last act makes QEMU return; a panic or a reset gives anything else
if [ $status -ne 33 ] || [ "$(tail -n 1 "$work/tap")" != "# guest: clean" ]; then
	tail -n 40 "$work/console"
	fail "the guest did not end well (QEMU's status is $status)"
fi
[ "$bad" -eq 0 ] && [ "$good" -gt 0 ] && [ "$good" -eq "$want" ] || fail "not all tests passed"
