# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The guest that tests RDMA: a kernel with Soft RoCE, and this machine's RDMA libraries.

# crc32_generic: nothing depends on it, and without it no device of Soft RoCE can be made
rdma_modules="dummy rdma_rxe rdma_ucm crc32_generic crc32c_generic"

# copies a folder or a file of this machine to the same place in the guest
from_here()	# PATH...
{
	local path

	for path; do
		mkdir -p "$work/guest$(dirname "$path")" &&
		cp -rL "$path" "$work/guest$path" || return
	done
}

# what libraries and programs load when they run
rdma_plugins()
{
	local lib

	lib=/usr/lib/$(gcc -print-multiarch)
	from_here /etc/libibverbs.d/rxe.driver "$lib"/libibverbs/librxe-rdmav*.so \
		"$lib"/ucx/libuct_{ib,rdmacm}.so.0
}

guest_rdma()
{
	local build programs=() program name

	"$root/scripts/deps.sh" rdma || return
	for program in "$root"/tests/rdma/test_*.c; do
		name=$(basename "$program" .c)
		programs+=("tests/rdma/test_rdma_${name#test_}")
	done
	mkdir -p "$work"/guest/{bin,suites} && built tests/rdma/rxe_add "${programs[@]}" || return
	cp "$build/tests/rdma/rxe_add" "$here/rdma_init" "$work/guest/bin/" || return
	for program in "${programs[@]}"; do
		name=${program##*/}
		cp "$build/$program" "$work/guest/suites/${name#test_}" || return
	done
	rdma_plugins
}
