#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Makes patches for the kernel's mailing list in build/kernel-series: the fault loops of kmod/, and
# what this folder has beside them, on top of the newest kernel of Debian, whose source is fetched
# into the cache. Some users are converted by kmod/convert/any.cocci.
#
#   kmod/series/make.sh
#
# check.sh builds and tests the result. Exit status: 0 made, 1 not, 77 skipped with the reason.
set -eu -o pipefail

# shellcheck source=kmod/series/source.sh
. "$(dirname "$0")/source.sh"

need_tools spatch:coccinelle git:git xz:xz-utils
source_get
tree=$work/tree

# the files that the series changes
changed="MAINTAINERS Documentation/mm/index.rst drivers/hv/Kconfig drivers/hv/mshv_regions.c
	drivers/infiniband/Kconfig drivers/infiniband/core/umem_odp.c
	include/linux/mmu_notifier.h lib/Kconfig.debug lib/test_hmm.c mm/Kconfig mm/Makefile
	mm/mmu_notifier.c"

# a source of kmod/ as the kernel has it
convert()	# FILE TARGET
{
	mkdir -p "$(dirname "$tree/$2")"
	sed -f "$series/in-tree.sed" "$root/kmod/$1" > "$tree/$2"
}

# the line must be the only one that matches
has_line()	# FILE LINE
{
	[ "$(grep -cE "$2" "$tree/$1")" = 1 ] ||
		{ echo "$1 has no single line $2: the kernel has changed" >&2; return 1; }
}

# puts a file into another one, after the only line that matches
add_after()	# FILE LINE ADDITION
{
	has_line "$1" "$2"
	sed -i -E "/$2/r $3" "$tree/$1"
}

# puts a file, but for its first line, in front of the only line that matches
add_before()	# FILE LINE ADDITION
{
	sed 1d "$3" > "$work/addition"
	has_line "$1" "$2"
	sed -i -E "/$2/{
		e cat $work/addition
	}" "$tree/$1"
}

# replaces the only line that matches
replace()	# FILE LINE TEXT
{
	has_line "$1" "$2"
	sed -i -E "s|$2|$3|" "$tree/$1"
}

# adds files to the entry in MAINTAINERS, where the names of entries and files are sorted
maintain()	# FILE...
{
	printf 'F:\t%s\n' "$@" >> "$work/files"
	{
		printf '%s\n' "INVALIDATION LOCK (MMU_INVLOCK)" "M:	$ident" \
			"L:	linux-mm@kvack.org" "S:	Maintained"
		sort "$work/files"
		echo
	} > "$work/entry"
	LC_ALL=C awk -v entry="$work/entry" '
		last == "" && /^I/ && !done && $0 > "INVALIDATION LOCK" {
			while ((getline line < entry) > 0) print line
			done = 1
		}
		{ last = $0; print }' "$source/MAINTAINERS" > "$tree/MAINTAINERS"
}

# makes a user of the loop a user of mmu_invlock_any.h
convert_user()	# FILE
{
	spatch --very-quiet --smpl-spacing --no-show-diff --in-place \
		--sp-file "$root/kmod/convert/any.cocci" \
		"$tree/$1" 2> "$work/spatch.log" || { cat "$work/spatch.log" >&2; return 1; }
	sed -i '/^#include "kmod\/mmu_invlock_any.h"$/d' "$tree/$1"
	sed -i '0,/^#include <linux\/hmm.h>$/s//&\n#include <linux\/mmu_invlock_any.h>/' "$tree/$1"
	grep -q mmu_invlock_any_attempt "$tree/$1"
}

message()	# NUMBER
{
	awk -v number="$1" 'BEGIN { now = "none" } /^== / { now = $2; next } now == number' \
		"$series/messages.txt"
}

commit()	# NUMBER
{
	git -C "$tree" add -A
	message "$1" | git -C "$tree" commit -q -s -F -
}

git init -q "$tree"
ident=$(git -C "$root" var GIT_AUTHOR_IDENT | sed 's/ [0-9]* [-+0-9]*$//')
git -C "$tree" config user.name "${ident% <*}"
git -C "$tree" config user.email "$(sed 's/.*<\(.*\)>/\1/' <<< "$ident")"
for file in $changed; do
	mkdir -p "$(dirname "$tree/$file")"
	cp "$source/$file" "$tree/$file"
done
git -C "$tree" add -A
git -C "$tree" commit -q -m "linux $version"

# 1: a wait that ends
sed '1,/^\/\* The series adds/d' "$series/read_begin.c" > "$work/read_begin"
add_after mm/mmu_notifier.c '^EXPORT_SYMBOL_GPL\(mmu_interval_read_begin\);$' "$work/read_begin"
{
	echo "int mmu_interval_read_begin_timeout(struct mmu_interval_notifier *interval_sub,"
	printf '\t\t\t\t    long timeout, unsigned long *ret_seq);\n'
} > "$work/declaration"
add_after include/linux/mmu_notifier.h \
	'^mmu_interval_read_begin\(struct mmu_interval_notifier \*interval_sub\);$' \
	"$work/declaration"
commit 1

# 2: the loop for a spinlock
convert mmu_invlock.h include/linux/mmu_invlock.h
convert mmu_invlock.c mm/mmu_invlock.c
convert fault.c mm/mmu_invlock_fault.c
maintain include/linux/mmu_invlock.h mm/mmu_invlock.c mm/mmu_invlock_fault.c
add_before mm/Kconfig '^config GET_FREE_REGION$' "$series/Kconfig"
printf '%s\n' 'obj-$(CONFIG_MMU_INVLOCK) += mmu_invlock.o mmu_invlock_fault.o' > "$work/object"
add_after mm/Makefile '^obj-\$\(CONFIG_HMM_MIRROR\) \+= hmm.o$' "$work/object"
commit 2

# 3: the loop for a lock that sleeps
convert mmu_invlock_any.h include/linux/mmu_invlock_any.h
convert any.c mm/mmu_invlock_any.c
maintain include/linux/mmu_invlock_any.h mm/mmu_invlock_any.c
replace mm/Makefile '(mmu_invlock_fault\.o)$' '\1 mmu_invlock_any.o'
commit 3

# 4: tests
mkdir -p "$tree/mm/tests"
cp "$series/mmu_invlock_kunit.c" "$tree/mm/tests/"
maintain mm/tests/mmu_invlock_kunit.c
printf '%s\n' 'obj-$(CONFIG_MMU_INVLOCK_KUNIT_TEST) += tests/mmu_invlock_kunit.o' > "$work/object"
add_after mm/Makefile '^obj-\$\(CONFIG_LAZY_MMU_MODE_KUNIT_TEST\)' "$work/object"
add_before mm/Kconfig '^source "mm\/damon\/Kconfig"$' "$series/Kconfig.test"
commit 4

# 5: documentation
cp "$series/mmu_invlock.rst" "$tree/Documentation/mm/"
maintain Documentation/mm/mmu_invlock.rst
printf '   mmu_invlock\n' > "$work/entry"
add_after Documentation/mm/index.rst '^   mmu_notifier$' "$work/entry"
commit 5

# 6 to 8: users. The semantic patch cannot tell that this variable has no other use.
convert_user drivers/infiniband/core/umem_odp.c
sed -i 's/^\tunsigned long num_pfns, current_seq;$/\tunsigned long num_pfns;/' \
	"$tree/drivers/infiniband/core/umem_odp.c"
sed -i '/^config INFINIBAND_ON_DEMAND_PAGING$/,/^$/s/select HMM_MIRROR/select MMU_INVLOCK/' \
	"$tree/drivers/infiniband/Kconfig"
commit 6
convert_user drivers/hv/mshv_regions.c
# spatch cannot match the loop around one round
sed -i -e '/^\tdo {$/,/^\t} while (ret == -EBUSY);$/{/^\t\tret = mshv_region_hmm/!d;s/^\t//}' \
	-e '/^ \* This function performs the following steps:$/,/return code for repeating\.$/c\
 * Fault the pages of the range in. On success, the mutex of the region is held.' \
	"$tree/drivers/hv/mshv_regions.c"
sed -i '/^config MSHV_ROOT$/,/^$/s/select HMM_MIRROR/select MMU_INVLOCK/' "$tree/drivers/hv/Kconfig"
commit 7
convert_user lib/test_hmm.c
sed -i '/^config TEST_HMM$/,/^$/s/select HMM_MIRROR/select MMU_INVLOCK/' "$tree/lib/Kconfig.debug"
commit 8

rm -rf "$patches"
git -C "$tree" format-patch -q --cover-letter --zero-commit --signature= -o "$patches" HEAD~8
subject=$(message 0 | sed -n 1p)
message 0 | sed '1,2d' > "$work/cover"
sed -i -e "s/\*\*\* SUBJECT HERE \*\*\*/$subject/" -e "/\*\*\* BLURB HERE \*\*\*/{
	r $work/cover
	d
}" "$patches/0000-cover-letter.patch"
echo "# $patches: $(ls "$patches" | wc -l) files, for linux $version"
