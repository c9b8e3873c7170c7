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
		"$lib"/ucx/libuct_{ib,rdmacm}.so.0 \
		/usr/bin/{mpirun.openmpi,orted,mpirun.mpich,hydra_pmi_proxy} \
		"$lib"/openmpi/lib/openmpi3 "$lib"/pmix2/lib /usr/share/openmpi /etc/openmpi
}

# what invlock installs, where the guest's dynamic linker and its tests look for it
rdma_adapters()
{
	local lib

	lib=$work/guest/usr/lib/$(gcc -print-multiarch)
	mkdir -p "$lib" "$work/guest/usr/lib/invlock/libfabric" &&
	cp -L "$build/lib/libinvlock.so.0" "$build/adapters/ucx/libinvlock-ucx.so.0" "$lib/" &&
	cp "$build/adapters/ofi/libinvlock-fi.so" "$work/guest/usr/lib/invlock/libfabric/" &&
	cp "$build/adapters/ucx/libinvlock-ucx-preload.so" "$work/guest/usr/lib/invlock/"
}

guest_rdma()
{
	local build programs=() program name
	local others=(rxe_add {fabric,ucx}_program ucx_calls mpi_program.{openmpi,mpich})

	alone apt "$root/scripts/deps.sh" rdma || return
	# a folder that was configured before these packages came lacks what needs them
	build=${INVLOCK_BUILD:-$root/build}
	[ ! -e "$build/build.ninja" ] || grep -q libinvlock-verbs "$build/build.ninja" ||
		alone build meson setup --reconfigure "$build" || return
	for program in "$root"/tests/rdma/test_*.c; do
		name=$(basename "$program" .c)
		programs+=("tests/rdma/test_rdma_${name#test_}")
	done
	mkdir -p "$work"/guest/{bin,etc,suites} &&
	built adapters/ofi/libinvlock-fi.so adapters/ucx/libinvlock-ucx-preload.so \
		"${others[@]/#/tests/rdma/}" "${programs[@]}" || return
	cp "${others[@]/#/$build/tests/rdma/}" "$here/rdma_init" "$work/guest/bin/" || return
	for program in "${programs[@]}"; do
		name=${program##*/}
		cp "$build/$program" "$work/guest/suites/${name#test_}" || return
	done
	echo root:x:0:0:root:/:/bin/sh > "$work/guest/etc/passwd"
	echo 127.0.0.1 localhost guest > "$work/guest/etc/hosts"
	rdma_plugins && rdma_adapters
}
