# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The kernel's own tests of a driver that mirrors a page table: lib/test_hmm.c and hmm-tests.c from
# Debian's linux-source for the kernel that boots. The driver is built three times: as it is,
# converted by kmod/convert/spinlock.cocci, and converted by kmod/convert/any.cocci. All three must
# give the same results. A fourth driver, which is converted and then drops no translation, must
# not. The on-demand registrations of RDMA, umem_odp.c, are converted and compiled. The kernel's
# sources stay in the cache, and nothing that is built of them does.

hmm_drivers="plain spinlock any"

# prints the kernel whose sources belong to the one that boots
hmm_version()
{
	case $kernel in
	rt|debug|kcsan) echo 6.1 ;;
	*) echo "$kernel" ;;
	esac
}

# unpacks what is needed of the kernel's sources into the cache
hmm_source()	# NAME SUITE
{
	local dir=$cache/convert-$1 version=$1
	local -x APT_CONFIG=${APT_CONFIG-}

	[ ! -d "$dir" ] || return 0
	rm -rf "$dir.new" && mkdir -p "$dir.new" || return
	if [ "$1" = newest ]; then
		private_apt "$dir.new/apt" sid || return
		APT_CONFIG=$dir.new/apt/apt.conf
		version=$(echo "$kernel_version" | grep -oE '^[0-9]+\.[0-9]+')
	elif ! apt-cache show "linux-source-$1" > /dev/null 2>&1; then
		apt-get -qq update || return
	fi
	# the headers for programs, which this machine may have of an older kernel
	unpack "$dir.new" "linux-source-$version" linux-libc-dev &&
	cp -a "$dir.new/root/usr/include" "$dir.new/headers" || return
	# older kernels lack some of these files, which tar calls an error
	tar -C "$dir.new" -xf "$dir.new/root/usr/src/linux-source-$version.tar.xz" \
		--strip-components=1 --wildcards '*/lib/test_hmm*' '*/mm/gup_test.h' \
		'*/tools/testing/selftests/*.h' '*/hmm-tests.c' '*/selftests/mm/vm_util.c' \
		'*/selftests/mm/hugepage_settings.c' \
		'*/infiniband/core/*.h' '*/infiniband/core/umem_odp.c'
	[ -n "$(find "$dir.new" -name hmm-tests.c)" ] && [ -e "$dir.new/lib/test_hmm.c" ] &&
	rm -rf "$dir.new/root" "$dir.new/apt" && mv "$dir.new" "$dir"
}

# builds the driver in a folder of its own
hmm_driver()	# SOURCE NAME
{
	local dir=$work/src/hmm-$2 stub patch=$2

	[ "$2" != planted ] || patch=spinlock
	mkdir -p "$dir" && cp "$1"/lib/test_hmm* "$dir/" || return
	if [ "$2" != plain ]; then
		spatch --very-quiet --no-show-diff --in-place \
			--sp-file "$root/kmod/convert/$patch.cocci" "$dir/test_hmm.c" \
			2> "$work/spatch.log" &&
		grep -q mmu_invlock "$dir/test_hmm.c" || return
	fi
	[ "$2" != planted ] ||
		sed -i '/^\tdmirror_do_update(dmirror, range->start, range->end);$/d' \
			"$dir/test_hmm.c"
	# without DEVICE_PRIVATE, its device has no memory of its own, but exists
	sed -i 's/^\treturn \(dmirror_allocate_chunk(mdevice, NULL.*);\)/\t\1\n\treturn 0;/' \
		"$dir/test_hmm.c"
	# such a kernel lacks this function: the tests that need it fail with every driver
	stub=
	grep -q $'\tmake_device_exclusive_range\t' "$hmm_symbols" ||
		stub='int make_device_exclusive_range(struct mm_struct *mm, unsigned long start,
			unsigned long end, struct page **pages, void *arg) { return -EOPNOTSUPP; }'
	printf '#include <linux/rmap.h>\n%s\n' "$stub" > "$dir/missing.c"
	printf '%s\n' "obj-m := test_hmm_$2.o" "test_hmm_$2-y := test_hmm.o missing.o" \
		'ccflags-y := -I$(src)/.. -I$(src)/../include/uapi' > "$dir/Kbuild"
	kbuild "hmm-$2" KBUILD_EXTRA_SYMBOLS="$work/src/kmod/Module.symvers" 2> "$dir/log" ||
		{ cat "$dir/log"; return 1; }
	cp "$dir/test_hmm_$2.ko" "$work/guest/modules/"
}

# A variable for the sequence is left over: the patch cannot tell whether it has another use.
odp_compiles()	# SOURCE
{
	local dir=$work/src/odp

	mkdir -p "$dir" && cp "$1"/drivers/infiniband/core/* "$dir/" &&
	spatch --very-quiet --no-show-diff --in-place --sp-file "$root/kmod/convert/any.cocci" \
		"$dir/umem_odp.c" 2> "$work/spatch.log" &&
	grep -q mmu_invlock_any_attempt "$dir/umem_odp.c" || return
	printf '%s\n' "obj-m := umem_odp.o" 'ccflags-y := -Wno-unused-variable' \
		'ccflags-y += -I$(src)/.. -I$(src)/../include/uapi' > "$dir/Kbuild"
	kernel_make M="$dir" umem_odp.o
}

# builds the kernel's tests, with those files beside them that they use on this kernel
hmm_tests()	# SOURCE
{
	local dir=$work/hmm headers=$1/headers parts=()

	mkdir -p "$work/guest/bin" "$dir/mm" && cp "$1"/tools/testing/selftests/*.h "$dir/" &&
	cp "$1"/tools/testing/selftests/{vm,mm}/* "$dir/mm/" 2> /dev/null
	# on older kernels a test that failed would otherwise come back to its end for ever
	sed -i '/^FIXTURE_TEARDOWN/,/^}/s/ASSERT_/EXPECT_/' "$dir/mm/hmm-tests.c" || return
	# seconds that a test may take: that an emulated machine is slow is no failure
	sed -i -E -e 's/(define TEST_TIMEOUT_DEFAULT) [0-9]+/\1 600/' \
		-e 's/^(TEST_F_TIMEOUT\(.*,) [0-9]+\)/\1 600)/' \
		"$dir"/*.h "$dir/mm/hmm-tests.c" || return
	grep -q 'TEST_TIMEOUT_DEFAULT 600' "$dir/kselftest_harness.h" || return
	! grep -q '"hugepage_settings.h"' "$dir/mm/hmm-tests.c" ||
		parts=("$dir"/mm/{hugepage_settings,vm_util}.c)
	gcc -O2 -w -D_GNU_SOURCE -I"$1" -I"$1/lib" -I"$dir" -I"$dir/mm" -isystem "$headers" \
		-isystem "$headers/x86_64-linux-gnu" -o "$work/guest/bin/hmm_tests" \
		"$dir/mm/hmm-tests.c" "${parts[@]}" -lpthread
}

hmm_build()
{
	local name source

	source=$cache/convert-$(hmm_version)
	need_tools spatch:coccinelle
	hmm_source "$(hmm_version)" || return
	hmm_symbols=$kernel_chroot$kernel_build/Module.symvers
	for name in $hmm_drivers planted; do
		hmm_driver "$source" "$name" || return
	done
	# the kernels that are built here have no RDMA
	[[ $kernel = @(debug|kcsan) ]] || odp_compiles "$source" || return
	hmm_tests "$source"
}

# Prints one test for each of the kernel's: does every driver have the same result?
hmm_compare()	# RESULTS
{
	awk -v drivers="$hmm_drivers" '
		BEGIN { nr_drivers = split(drivers, driver, " ") }
		/^# driver: / { now = $3; skips = 0 }
		/^(not )?ok / {
			result = /^not/ ? "fails" : /# *SKIP/ ? "is skipped" : "passes"
			name = $0
			sub(/^(not )?ok [0-9]+ *(- )?(# *SKIP *)?/, "", name)
			if (result == "is skipped") name = "skip " ++skips
			if (!(name in seen)) { seen[name] = 1; order[++nr] = name }
			got[now, name] = result
			count[now, result]++
		}
		END {
			for (i = 1; i <= nr; i++) {
				bad = ""
				result = got[driver[1], order[i]]
				for (d = 2; d <= nr_drivers; d++) {
					other = got[driver[d], order[i]]
					if (other != result)
						bad = bad ", with " driver[d] " it " other
				}
				printf "%sok %d - hmm-tests: %s %s%s\n", bad == "" ? "" : "not ",
					i, order[i], result == "" ? "is missing" : result, bad
			}
			for (d = 1; d <= nr_drivers; d++)
				printf "# %s: %d pass, %d fail, %d are skipped\n", driver[d],
					count[driver[d], "passes"], count[driver[d], "fails"],
					count[driver[d], "is skipped"]
			for (i = 1; i <= nr; i++)
				caught += got["planted", order[i]] != got["plain", order[i]]
			printf "%sok %d - planted: a driver that drops nothing differs in %d\n",
				caught ? "" : "not ", nr + 1, caught
			print "1.." nr + 1
		}' "$1"
}
