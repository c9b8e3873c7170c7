#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Boots a Debian kernel under QEMU, runs tests there, and prints their TAP. The run is only green if
# the guest itself says so at its very end.
#
#   tests/vm/run.sh [-k KERNEL] [-w WHAT] [-n NAME] [-t SECONDS] [-r RUNS] [-q] [-b] [-c]
#	-k	6.1, which is the default; 6.12; newest, which is what Debian sid has; rt, which is
#		6.1 with PREEMPT_RT; debug
#		(KASAN, lockdep, sleeping in the wrong place, leaks); kcsan (data races); all of
#		these; arm64, which is 6.1; arm64-6.12; arm64-16k, which is 6.12 with larger pages
#	-w	module: invlock.ko, which is the default; suites: the tests of bpf and of the
#		races; full: the same with preempt=full, as the kernel preempts its own code;
#		guard: those of them for which it matters that programs are preempted;
#		lockdown: what is said where the kernel is locked down; rdma: the adapters for
#		RDMA, on Soft RoCE; hmm: the kernel's own test of a driver, converted to
#		invlock and not; odp: on-demand registrations of RDMA, with their fault loop
#		converted and not, on newest; all of these but odp; short: a part of module and
#		suites, for machines that are emulated slowly
#	-n	only the test programs whose name contains NAME
#	-t	the length of each torture test
#	-r	how often the guest boots and runs everything; default: once
#	-q	without the planted faults
#	-b	measure instead: print the JSON of bench/kernel's programs; -n selects one
#	-c	count time in instructions, a nanosecond each, on one CPU: then the results do not
#		depend on what else this machine does
#
# INVLOCK_STORM sets the number of lookups for each number of threads in the storm on one CPU.
# Kernels are cached in $INVLOCK_CACHE, or $XDG_CACHE_HOME/invlock, or /var/cache/invlock.
# Exit status: 0 green, 1 red, 77 skipped with the reason.
set -u -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
kernel=
what=module
only=
torture=
runs=1
planted=1
measure=0
machine="-accel tcg,thread=multi -smp 2,sockets=2"
passed=()
while getopts k:w:n:t:r:qbc option; do
	[[ "$option" = [kw] ]] || passed+=("-$option" ${OPTARG:+"$OPTARG"})
	case $option in
	k) kernel=$OPTARG ;;
	w) what=$OPTARG ;;
	n) only=$OPTARG ;;
	t) torture=$OPTARG ;;
	r) runs=$OPTARG ;;
	q) planted=0 ;;
	b) planted=0 measure=1 ;;
	c)
		machine="-accel tcg,thread=single -icount shift=0,sleep=off"
		machine+=" -smp 1,sockets=2,maxcpus=2"
		;;
	*) sed -n '/^#   tests/,/^set/s/^# \?//p' "$0" >&2; exit 2 ;;
	esac
done

# on-demand registrations of Soft RoCE are that new
[ "$what" != odp ] || : "${kernel:=newest}"
: "${kernel:=6.1}"

skip()
{
	echo "1..0 # SKIP the tests in a guest: $*"
	exit 77
}

fail()
{
	echo "Bail out! $*"
	exit 1
}

# the memory of each of the guest's two nodes
node_mib=512
# 64 MiB of the guest's memory become /dev/pmem0, for a file system with DAX
dax_options='memmap=64M!896M'

# runs a function that builds something; a warning counts as a failure
build()	# FUNCTION WHAT
{
	if ! "$1" > "$work/build.log" 2>&1 || grep -qi 'warning:' "$work/build.log"; then
		cat "$work/build.log"
		fail "$2 does not build cleanly"
	fi
}

# runs each kernel in turn, with each of its runs; the last lines are a summary, one line for each
run_all()
{
	local name run name_run status lines=() red=0 green=0 parts=$what

	[ "$kernel" != all ] || kernel=$every_kernel
	[ "$what" != all ] || parts="module hmm suites full lockdown rdma"
	for name in $kernel; do
		for run in $parts; do
			# these have no BTF, which the BPF monitor needs, and no RDMA; hmm is slow
			[[ $name-$run = @(debug|kcsan)-@(hmm|suites|full|lockdown|rdma) ]] &&
				continue
			# this is for what drivers do
			[[ $name-$run = rt-@(suites|full|lockdown|rdma) ]] && continue
			[ "$run" != odp ] || [ "$name" = newest ] || continue
			# these depend on options and packages of x86
			[[ $name-$run = arm64*-@(hmm|full|lockdown|rdma) ]] && continue
			"$0" -k "$name" -w "$run" "${passed[@]}" | tee "$work/all"
			status=${PIPESTATUS[0]}
			name_run="# kernel $name, $run:"
			case $status in
			0) green=1; lines+=("$(grep "^$name_run" "$work/all")") ;;
			77) lines+=("$name_run skipped, $(sed -n 's/.*SKIP //p' "$work/all")") ;;
			*) red=1; lines+=("$name_run RED, $(tail -n 1 "$work/all")") ;;
			esac
		done
	done
	printf '%s\n' "${lines[@]}"
	[ $red = 0 ] || exit 1
	[ $green = 1 ] || exit 77
	exit 0
}

# the guest's last command makes QEMU return this; after a panic or a reset it returns 0
end_status=33

# sets what QEMU must be told of the machine, and of the console of its kernel
choose_machine()
{
	if is_arm64; then
		machine+=" -M virt -device pci-serial,chardev=results"
		machine+=" -chardev file,id=results,path=$work/results -serial file:$work/console"
		cpu=max,pauth-impdef=on
		kernel_options+=" console=ttyAMA0 results=ttyS0"
		# this machine has no device that lets the guest choose the status
		end_status=0
		return
	fi
	machine+=" -serial file:$work/console -serial file:$work/results"
	machine+=" -device isa-debug-exit,iobase=0xf4,iosize=0x04"
	# cx16=off: QEMU 7.2 with CX16 crashes newer kernels at random; no_timer_check: on a busy
	# machine the emulated timer comes too late for the kernel's check of it, which then panics
	cpu=max,cx16=off
	kernel_options+=" console=ttyS0 results=ttyS1 no_timer_check"
}

# Return: 0 = the guest itself said that all is well, and QEMU ended with the status for that
boot()	# OPTION...
{
	local status options="panic=-1 oops=panic loglevel=4"

	# a CPU that waits long for the host has not locked up
	options+=" watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300"
	options+=" sysctl.kernel.hung_task_timeout_secs=600"

	# shellcheck disable=SC2086 # each word is an option
	timeout -k 5 3600 "${qemu[@]}" $machine -cpu $cpu -m $((2 * node_mib))M \
		-object memory-backend-ram,id=m0,size=${node_mib}M \
		-object memory-backend-ram,id=m1,size=${node_mib}M \
		-numa node,nodeid=0,memdev=m0,cpus=0 -numa node,nodeid=1,memdev=m1,cpus=1 \
		-nodefaults -no-user-config -display none -no-reboot \
		-kernel "$kernel_image" -initrd "$work/initrd" \
		-append "$options $kernel_options $*" < /dev/null
	status=$?
	tr -d '\r' < "$work/results" > "$work/tap"
	[ $status -eq $end_status ] && [ "$(tail -n 1 "$work/tap")" = "# guest: clean" ]
}

# prints what the kernel said when it died, or else the end of what it said
last_words()
{
	local words

	words=$(grep -m 1 -n -E 'Oops|BUG: |Kernel panic|int3' "$work/console")
	tail -n "+${words%%:*}" "$work/console" 2> /dev/null | head -n 60 | grep . ||
		tail -n 40 "$work/console"
}

# runs a test with a planted fault: it must be red, with WORDS in its results or the kernel's log
plant()	# NAME TEST WORDS [OPTION...]
{
	local title="ok 1 - planted: $1 is seen by $2 and turns the run red"

	echo "1..1"
	if boot "only=$2 fault=$1" "${@:4}" || ! grep -qE "$3" "$work/tap" "$work/console"; then
		echo "not $title"
		sed 's/^/# /' "$work/tap"
	else
		echo "$title"
		grep -hE "$3" "$work/tap" "$work/console" | head -n 1 | sed 's/^/#   /'
	fi
}

work=$(mktemp -d "${TMPDIR:-/tmp}/invlock-vm.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

# shellcheck source=tests/vm/kernel.sh
. "$here/kernel.sh"
# shellcheck source=tests/vm/guest.sh
. "$here/guest.sh"
# shellcheck source=tests/vm/rdma.sh
. "$here/rdma.sh"
# shellcheck source=tests/vm/packaging.sh
. "$here/packaging.sh"
# shellcheck source=tests/vm/hmm.sh
. "$here/hmm.sh"
# shellcheck source=tests/vm/odp.sh
. "$here/odp.sh"
# shellcheck source=tests/vm/arm64.sh
. "$here/arm64.sh"

if [ "$kernel" = all ] || [ "$what" = all ]; then
	run_all
fi
[ "$(uname -m)" = x86_64 ] || skip "they run on x86_64 only, this is $(uname -m)"
need_tools qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio gcc:gcc \
	make:make kmod:kmod xz:xz-utils
[ -e /usr/include/cmocka.h ] || need_tools cmocka:libcmocka-dev
[[ "$what" != @(rdma|odp) ]] || flavour=amd64
# shellcheck disable=SC2086 # each word is a pair
! is_arm64 || need_tools $arm64_tools
kernel_get "$kernel"
qemu_get "$kernel"
choose_machine
build module_build "invlock.ko for $kernel_version"
boots=("")	# options of the kernel, for each boot
case $what in
module)
	# callbacks of notifiers run on every CPU then, as with many CPUs
	kernel_options+=" srcutree.convert_to_big=1"
	build planted_build "invlock.ko with a planted fault, for $kernel_version,"
	build guest_programs "the guest's tests"
	;;
suites)
	planted=0
	# an NVMe device, which the tests of io_uring write
	truncate -s 16M "$work/disk"
	machine+=" -drive if=none,id=disk,format=raw,file=$work/disk"
	machine+=" -device nvme,serial=invlock,drive=disk"
	is_arm64 || kernel_options+=" $dax_options"
	build guest_suites "the suites"
	;;
short)
	planted=0
	build guest_programs "the guest's tests"
	build guest_suites "the suites"
	printf '%s\n' tool kinds life bpf_calls bpf_corners bpf_files bpf_late bpf_life \
		bpf_mapping bpf_net bpf_shared race > "$work/guest/short"
	;;
full|guard)
	planted=0
	kernel_options+=" preempt=full $dax_options"
	build guest_suites "the suites"
	[ "$what" = full ] ||
		printf '%s\n' bpf_{calls,changes,corners,files,functions,guard,late,mapping} \
			bpf_{net,uring} race race_storm{,_no_guard} tool > "$work/guest/short"
	;;
lockdown)
	planted=0
	# the module that makes QEMU return another status has no signature
	end_status=0
	boots=(lockdown=integrity lockdown=confidentiality)
	build guest_lockdown "the test of lockdown"
	;;
rdma)
	planted=0
	stock_modules=$rdma_modules
	build guest_rdma "the tests of RDMA"
	;;
hmm)
	planted=0
	node_mib=1024
	# one of the tests keeps a CPU for long, and an emulated one is slow
	kernel_options+=" watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300"
	build hmm_build "test_hmm"
	;;
odp)
	odp_needs
	stock_modules=$odp_modules
	boots=(odp=plain odp=any)
	build odp_build "ib_core"
	[ "$planted" = 0 ] || build odp_planted "invlock.ko with a planted fault"
	build guest_odp "the tests of on-demand registrations"
	;;
*) fail "what is \"$what\"? module, suites, full, lockdown, guard, rdma, hmm, odp, short or all" ;;
esac
[ -n "$userland" ] || build guest_tool "the command"
guest_pack

echo "# kernel $kernel_version, $what"
clean=0
: > "$work/all"
for options in "${boots[@]}"; do for _ in $(seq "$runs"); do
	boot "only=$only measure=$measure torture=$torture storm=${INVLOCK_STORM:-} $options" ||
		clean=1
	if [ $measure = 1 ]; then
		grep -v '^#' "$work/tap"
		[ $clean -eq 0 ] || fail "the guest did not end well"
		exit 0
	fi
	if [ "$what" = hmm ]; then hmm_compare "$work/tap"; else cat "$work/tap"; fi |
	tee -a "$work/all" | grep -v '^1\.\.'
done; done
[ -n "$only" ] || [ "$what" != module ] || is_arm64 ||
	packaging | tee -a "$work/all" | grep -v '^1\.\.'
[ $clean -eq 0 ] || last_words
if [ $planted = 1 ] && [ "$what" = odp ]; then
	odp_plant | tee -a "$work/all" | grep -v '^1\.\.'
elif [ $planted = 1 ]; then
	while read -r name how test words; do
		[ "$how" = boot ] || continue
		part=${test#"${test%%/*}"}
		plant "$name" "${test%%/*}" "$words" "INVLOCK_TEST=${part#/}"
	done < "$work/guest/planted" | tee -a "$work/all" | grep -v '^1\.\.'
fi

# each program of the guest prints a plan; here their sum is the one plan
want=$(awk -F'\\.\\.' '/^1\.\.[0-9]+/ { n += $2 } END { print n + 0 }' "$work/all")
echo "1..$want"
good=$(grep -c '^ok ' "$work/all")
bad=$(grep -c '^not ok ' "$work/all")
skipped=$(grep -c '^ok .*# SKIP' "$work/all")
echo "# kernel $kernel, $what: $((good + bad)) of $want tests ran, $bad failed, $skipped skipped"
[ $clean -eq 0 ] || fail "the guest did not end well"
[ "$bad" -eq 0 ] && [ "$good" -gt 0 ] && [ "$good" -eq "$want" ] || fail "not all tests passed"
