#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Makes the series and checks it, and prints TAP: style, kernel-doc, the compilers' warnings,
# sparse, and the KUnit tests in a user mode kernel. Faults that are planted must turn the KUnit
# tests red. What is built stays in the cache, so a second run is faster.
#
#   kmod/series/check.sh
#
# Exit status: 0 green, 1 red, 77 skipped with the reason.
set -u -o pipefail

# shellcheck source=kmod/series/source.sh
. "$(dirname "$0")/source.sh"
nr=0 red=0

# prints a result, and what was said if that was not good, or was not nothing
result()	# GOOD TITLE
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then echo "ok $nr - $2"; return; fi
	red=1
	echo "not ok $nr - $2"
	sed 's/^/# /' "$work/log" | tail -n 40
}

# runs a command that must succeed and print nothing
silent()	# TITLE COMMAND...
{
	local status=0

	"${@:2}" > "$work/log" 2>&1 && [ ! -s "$work/log" ] || status=1
	result $status "$1"
}

# puts the series onto a copy of the source that shares the files with it, and touches no file that
# is there already
apply()
{
	local file new=$work/new

	[ -d "$tree" ] || { cp -al "$source" "$tree.new" && mv "$tree.new" "$tree"; } || return
	rm -rf "$new"
	for file in $files; do
		mkdir -p "$new/$(dirname "$file")" "$tree/$(dirname "$file")" || return
		[ ! -e "$source/$file" ] || cp "$source/$file" "$new/$file" || return
	done
	cat "$patches"/000[1-9]* | (cd "$new" && git apply -) || return
	for file in $files; do
		cmp -s "$new/$file" "$tree/$file" && continue
		# the copy may share this file with the source
		rm -f "${tree:?}/$file" && cp "$new/$file" "$tree/$file" || return
	done
}

# CONFIG_ options that were not accepted would be missing without a word
has_options()	# CONFIG BUILT
{
	! grep '^CONFIG' "$1" | grep -vxFf "$2"
}

uml()
{
	make -s -C "$tree" ARCH=um O="$out/um" CC="$cc" "$@"
}

# runs the KUnit tests; Return: 0 = all of them ran and are green, and the kernel did not complain
kunit()
{
	uml -j "$(nproc)" > "$work/log" 2>&1 || return 2
	timeout 600 "$out/um/linux" mem=256M kunit_shutdown=halt con=null con0=fd:0,fd:1 \
		< /dev/null > "$work/log" 2>&1
	[ "$(grep -c '^    ok ' "$work/log")" = "$(grep -c '^	KUNIT_CASE(' \
		"$series/mmu_invlock_kunit.c")" ] && grep -q '^ok 1 mmu_invlock$' "$work/log" &&
		! grep -E 'WARNING|BUG:|INFO: ' "$work/log"
}

# changes a line: this KUnit test must then fail, and the tests after it must still run
plant()	# FILE LINE OTHER TEST
{
	local status=0

	grep -qF "$2" "$tree/$1" || { echo "$1 has no line $2" > "$work/log"; status=1; }
	python3 - "$tree/$1" "$2" "$3" <<-'END'
	import sys
	name, old, new = sys.argv[1:]
	text = open(name).read()
	open(name, 'w').write(text.replace(old, new))
	END
	kunit
	[ $? = 1 ] && grep -qE "^    not ok [0-9]+ $4\$" "$work/log" &&
		grep -q '^not ok 1 mmu_invlock$' "$work/log" || status=1
	result $status "planted: $1 with \"$3\" turns $4 red"
	apply
}

# builds the files of the series, and those that it changes
objects()	# FOLDER OPTION...
{
	make -s -C "$tree" O="$out/$1" CC="$cc" W=1 "${@:2}" -j "$(nproc)" mm/mmu_notifier.o \
		mm/mmu_invlock.o mm/mmu_invlock_fault.o mm/mmu_invlock_any.o \
		mm/tests/mmu_invlock_kunit.o drivers/infiniband/core/umem_odp.o \
		drivers/hv/mshv_regions.o lib/test_hmm.o
}

# objects(), after a configuration of its own
configured()	# FOLDER
{
	make -s -C "$tree" O="$out/$1" CC="$cc" defconfig && "$tree/scripts/config" \
		--file "$out/$1/.config" -e KUNIT -e MMU_INVLOCK_KUNIT_TEST -e INFINIBAND \
		-e INFINIBAND_USER_ACCESS -e INFINIBAND_USER_MEM -e INFINIBAND_ON_DEMAND_PAGING \
		-e MEMORY_HOTPLUG -e MEMORY_HOTREMOVE -e ZONE_DEVICE -e DEVICE_PRIVATE \
		-e RUNTIME_TESTING_MENU -e TEST_HMM -e HYPERVISOR_GUEST -e HYPERV -e MSHV_ROOT &&
	make -s -C "$tree" O="$out/$1" CC="$cc" olddefconfig prepare
}

need_tools perl:perl sparse:sparse clang-19:clang-19 flex:flex bison:bison bc:bc
"$series/make.sh" || exit
source_get
out=$cache/series
tree=$out/tree
cc=gcc
! command -v ccache > /dev/null || cc="ccache gcc"
mkdir -p "$out"
exec {lock}> "$out/lock"
flock "$lock"
files=$(sed -n 's|^diff --git a/\([^ ]*\) .*|\1|p' "$patches"/000[1-9]* | sort -u)
apply > "$work/log" 2>&1
result $? "the series applies to linux $version"
[ $red = 0 ] || exit 1
sources=$(echo "$files" | grep 'mmu_invlock.*[ch]$')

for patch in "$patches"/000[1-9]*; do
	silent "checkpatch finds nothing in $(basename "$patch")" \
		perl "$tree/scripts/checkpatch.pl" --strict --no-summary --quiet --no-tree "$patch"
done
# shellcheck disable=SC2086 # each word is a file
silent "kernel-doc finds nothing" env -C "$tree" scripts/kernel-doc -none -Wall $sources

cp "$series/kunit.config" "$work/config"
uml KCONFIG_ALLCONFIG="$work/config" allnoconfig > "$work/log" 2>&1 &&
	has_options "$work/config" "$out/um/.config" >> "$work/log"
result $? "the user mode kernel has the options that the tests want"
kunit
result $? "the KUnit tests are green"
plant mm/mmu_invlock.c 'if (!hlist_empty(&inv->faults))' 'if (false)' \
	a_change_between_walk_and_commit_forces_another_round
plant mm/mmu_invlock_any.c 'mmu_interval_read_retry(f->notifier, f->seq)' 'false' \
	with_a_lock_that_sleeps_a_change_forces_another_round
plant mm/mmu_invlock_fault.c 'if (inv->closed || !inv->running)' 'if (true)' \
	a_change_that_does_not_end_ends_the_loop_with_busy
# the waits, and what may end each of them
plant mm/mmu_notifier.c 'running = seq == subs->invalidate_seq' 'running = false' \
	with_a_lock_that_sleeps_the_wait_has_a_bound
plant mm/mmu_notifier.c 'READ_ONCE(subs->invalidate_seq) != seq,' 'false,' \
	with_a_lock_that_sleeps_the_end_of_a_change_wakes_a_fault
plant mm/mmu_notifier.c 'if (left <= 0)' 'if (left < 0)' \
	a_reader_gives_up_a_change_that_does_not_end
plant mm/mmu_notifier.c '*ret_seq = seq' '*ret_seq = READ_ONCE(subs->invalidate_seq)' \
	the_end_of_a_change_wakes_a_reader
plant mm/mmu_notifier.c 'left ? -EINTR : -EAGAIN' '-EAGAIN' a_kill_ends_the_wait_of_a_reader
plant mm/mmu_notifier.c wait_event_killable_timeout wait_event_timeout \
	with_a_lock_that_sleeps_a_kill_ends_the_wait_for_a_change
plant mm/mmu_invlock_fault.c wait_event_killable_timeout wait_event_timeout \
	a_kill_ends_the_wait_for_a_change
plant mm/mmu_invlock_any.c '} while (err == -EAGAIN)' '} while (false)' \
	with_a_lock_that_sleeps_the_wait_has_a_bound
plant mm/mmu_invlock_any.c '} while (err == -EAGAIN)' '} while (err == -EAGAIN); err = 0' \
	with_a_lock_that_sleeps_a_kill_ends_the_wait_for_a_change
for lock in mmap_read_lock mmap_write_lock; do
	plant mm/mmu_invlock_fault.c "${lock}_killable(f->walk.mm)" "($lock(f->walk.mm), 0)" \
		a_kill_ends_the_wait_for_the_mmap_lock
	plant mm/mmu_invlock_any.c "${lock}_killable(f->mm)" "($lock(f->mm), 0)" \
		with_a_lock_that_sleeps_a_kill_ends_the_wait_for_the_mmap_lock
done

configured x86 > "$work/log" 2>&1
result $? "defconfig accepts the options"
silent "gcc has no warning with W=1" objects x86
rm -f "$out"/x86/mm/mmu_invlock*.o
# Debian's sparse does not know this word, and stumbles over what every module says of itself
silent "sparse finds nothing in the loops" make -s -C "$tree" O="$out/x86" CC="$cc" C=1 \
	CHECK="sparse -D__typeof_unqual__=__typeof__" mm/mmu_invlock.o mm/mmu_invlock_fault.o \
	mm/mmu_invlock_any.o
cc=clang-19
configured clang > "$work/log" 2>&1
result $? "defconfig accepts the options with clang"
silent "clang has no warning with W=1" objects clang
echo "1..$nr"
exit $red
