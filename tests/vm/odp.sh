# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# On-demand registrations of RDMA, on Soft RoCE. They are a part of ib_core, which is built from
# Debian's linux-source for the kernel that boots: as it is, and with its umem_odp.c converted by
# kmod/convert/any.cocci. Each gets a guest of its own, with the same tests; all other modules are
# Debian's. In further guests invlock.ko has a fault that the tests must find.

odp_modules="dummy rdma_rxe rdma_ucm crc32_generic crc32c_generic"

# sets odp_source, the folder of the kernel's source, which make kernel-series keeps
odp_needs()
{
	local version

	[[ "$kernel" = @(newest|7.*) ]] || skip "$kernel's Soft RoCE has no on-demand registrations"
	need_tools spatch:coccinelle ibv_rc_pingpong:ibverbs-utils ib_write_bw:perftest
	# shellcheck disable=SC2016 # that shell replaces these
	odp_source=$(bash -c '. "$0" && source_get >&2 && echo "$source"' \
		"$root/kmod/series/source.sh") || { echo "$odp_source"; exit 77; }
	version=$(make -s -C "$odp_source" kernelversion)
	[ "${kernel_version%%[+-]*}" = "$version" ] ||
		skip "$odp_source is $version, and the kernel $kernel_version: remove the older"
}

# builds ib_core in $work/src/odp
odp_core()	# NAME
{
	kbuild odp KBUILD_EXTRA_SYMBOLS="$work/src/kmod/Module.symvers" &&
	cp "$work/src/odp/ib_core.ko" "$work/guest/modules/ib_core-$1.ko"
}

odp_build()
{
	local dir=$work/src/odp source=$odp_source/drivers/infiniband/core

	mkdir -p "$dir" "$work/guest/modules" &&
	cp "$source"/*.[ch] "$here"/odp/walk.[ch] "$dir/" &&
	# of its modules, this one alone
	sed -E 's/^obj-\S+/others/' "$source/Makefile" > "$dir/Kbuild" &&
	cat >> "$dir/Kbuild" <<-'END' || return
	obj-m := ib_core.o
	ib_core-y += walk.o
	CFLAGS_umem_odp.o += -include $(src)/walk.h
	ccflags-y += -I$(src)/.. -I$(src)/../include/uapi
	END
	odp_core plain || return
	spatch --very-quiet --smpl-spacing --no-show-diff --in-place \
		--sp-file "$root/kmod/convert/any.cocci" "$dir/umem_odp.c" 2> "$work/spatch.log" &&
	grep -q mmu_invlock_any_attempt "$dir/umem_odp.c" || return
	# the patch cannot tell that this variable has no other use
	sed -i 's/^\tunsigned long num_pfns, current_seq;$/\tunsigned long num_pfns;/' \
		"$dir/umem_odp.c"
	odp_core any || return
	# a fault that gives up takes nothing out of the table
	sed -i.any 's/^\(\t*\)range.hmm_pfns\[i\] &= ~HMM_PFN_FLAGS;$/\1{ }/' "$dir/umem_odp.c"
	! cmp -s "$dir/umem_odp.c"{,.any} && odp_core kept
}

# The planted faults: where each of them is, its name, and the test that must be red, which runs
# alone. Those of invlock.ko are in tests/vm/planted.
odp_faults()
{
	cat <<-END
	invlock any-unchecked what_changes_between_walk_and_commit
	invlock any-hoist as_many_collisions_cost_as_many_rounds
	invlock any-unbounded a_fault_whose_every_round_collides
	invlock killed a_fault_ends_when_its_process_is_killed
	ib_core kept a_fault_whose_every_round_collides
	END
}

odp_planted()
{
	odp_faults | awk '$1 == "invlock" { print $2 }' > "$work/guest/planted" && planted_modules
}

# prints the results of a guest for each of them
odp_plant()
{
	local where name test options

	odp_faults | while read -r where name test; do
		options="odp=any INVLOCK_TEST=$test"
		[ "$where" = invlock ] || options+=" odp=$name fault="
		plant "$name" odp "^not ok .*$test" "$options"
	done
}

guest_odp()
{
	local programs=(tests/rdma/{rxe_add,test_rdma_odp}) lib

	lib=/usr/lib/$(gcc -print-multiarch)
	alone apt "$root/scripts/deps.sh" rdma || return
	mkdir -p "$work"/guest/{bin,suites,etc} && built "${programs[@]}" &&
	cp "$build/tests/rdma/rxe_add" "$here/odp_init" "$work/guest/bin/" &&
	cp "$build/tests/rdma/test_rdma_odp" "$work/guest/suites/odp" || return
	from_here /etc/libibverbs.d/rxe.driver "$lib"/libibverbs/librxe-rdmav*.so \
		/usr/bin/ib{v_rc_pingpong,_write_bw,_send_bw}
}
