# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The guest that tests RDMA: a kernel with Soft RoCE. Most kernels have this machine's RDMA
# libraries beside them, copied. 6.12 has those of Debian 13, and the newest those of sid, whose
# root the guest mounts (rdma_root.sh).

# crc32_generic: nothing depends on it, and without it no device of Soft RoCE can be made; the last
# four are for the root
rdma_modules="dummy rdma_rxe rdma_ucm crc32_generic crc32c_generic virtio_pci"
rdma_modules+=" 9pnet_virtio 9p overlay"

# the Debian of this kernel's libraries; or nothing, for those of this machine
rdma_suite()
{
	case $kernel in
	6.12) echo trixie ;;
	newest) echo sid ;;
	esac
}

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
	local lib python

	lib=/usr/lib/$(gcc -print-multiarch)
	from_here /etc/libibverbs.d/rxe.driver "$lib"/libibverbs/librxe-rdmav*.so \
		"$lib"/ucx/libuct_{ib,rdmacm}.so.0 \
		/usr/bin/{mpirun.openmpi,orted,mpirun.mpich,hydra_pmi_proxy} \
		"$lib"/openmpi/lib/openmpi3 "$lib"/pmix2/lib /usr/share/openmpi /etc/openmpi \
		/usr/bin/python3 /usr/lib/python3/dist-packages/mpi4py || return
	python=$(realpath /usr/bin/python3)
	tar -c --exclude='config-*' --exclude=test --exclude=lib2to3 --exclude=pydoc_data \
		--exclude=dist-packages --exclude=distutils --exclude=asyncio \
		"/usr/lib/${python##*/}" 2> /dev/null | tar -x -C "$work/guest"
}

# what is built for the guest
rdma_programs="tests/rdma/rxe_add tests/rdma/fabric_program tests/rdma/fabric_torture
	tests/rdma/ucx_program tests/rdma/ucx_calls tests/rdma/mpi_program.openmpi
	tests/rdma/mpi_program.mpich tests/bpf/hold_bpf"
rdma_adapters="adapters/ucx/libinvlock-ucx-preload.so adapters/ofi/libinvlock-fi.so
	tests/rdma/libinvlock-fi-no_check.so tests/rdma/libinvlock-fi-late_sample.so"

rdma_tests()
{
	local program name

	if [ "$measure" = 1 ]; then
		echo bench/rdma_fabric
		return
	fi
	for program in "$root"/tests/rdma/test_*.c; do
		name=$(basename "$program" .c)
		# that one is for odp.sh
		[ "$name" = test_odp ] || echo "tests/rdma/test_rdma_${name#test_}"
	done
}

# puts what was built where the guest's dynamic linker and its tests look for it
rdma_install()	# BUILD
{
	local lib name program

	lib=$work/guest/usr/lib/$(gcc -print-multiarch)
	mkdir -p "$work"/guest/{bench,bin,suites,usr/bin,usr/lib/invlock/libfabric} "$lib" &&
	cp "$here/rdma_init" "$work/guest/bin/" || return
	for program in $rdma_programs; do
		cp "$1/$program" "$work/guest/usr/bin/" || return
	done
	for program in $(rdma_tests); do
		name=${program##*/}
		case $program in
		bench/*) cp "$1/$program" "$work/guest/bench/${name#rdma_}" ;;
		*) cp "$1/$program" "$work/guest/suites/${name#test_}" ;;
		esac || return
	done
	# the same once more, with the BPF monitor
	[ "$measure" = 1 ] || for name in stacks verbs; do
		ln -s "rdma_$name" "$work/guest/suites/rdma_${name}_bpf" || return
	done
	cp -L "$1/lib/libinvlock.so.0" "$1/adapters/ucx/libinvlock-ucx.so.0" "$lib/" &&
	cp "$1/adapters/ucx/libinvlock-ucx-preload.so" "$root/tests/rdma/mpi_program.py" \
		"$work/guest/usr/lib/invlock/" &&
	cp "$1/adapters/ofi/libinvlock-fi.so" "$work/guest/usr/lib/invlock/libfabric/" || return
	for name in no_check late_sample; do
		mkdir "$work/guest/usr/lib/invlock/libfabric-$name" &&
		cp "$1/tests/rdma/libinvlock-fi-$name.so" \
			"$work/guest/usr/lib/invlock/libfabric-$name/libinvlock-fi.so" || return
	done
}

# builds and installs for a root, which QEMU then offers to the guest
guest_rdma_of()	# SUITE
{
	local built=$work/rdma

	INVLOCK_OUT=$built INVLOCK_TARGETS=$(echo $rdma_adapters $rdma_programs $(rdma_tests)) \
		"$here/rdma_root.sh" -s "$1" || return
	userland=$(cat "$built/root") || return
	machine+=" -fsdev local,id=root,path=$userland,security_model=none,readonly=on"
	machine+=" -device virtio-9p-pci,fsdev=root,mount_tag=root"
	rdma_install "$built" && mkdir -p "$work"/guest/{userland,lower,upper}
}

guest_rdma()
{
	local build suite

	suite=$(rdma_suite)
	if [ -n "$suite" ]; then
		guest_rdma_of "$suite"
		return
	fi
	alone apt "$root/scripts/deps.sh" rdma || return
	# a folder that was configured before these packages came lacks what needs them
	build=${INVLOCK_BUILD:-$root/build}
	[ ! -e "$build/build.ninja" ] || grep -q libinvlock-verbs "$build/build.ninja" ||
		alone build meson setup --reconfigure "$build" || return
	# shellcheck disable=SC2086,SC2046 # each word is a target
	built $rdma_adapters $rdma_programs $(rdma_tests) &&
	rdma_install "$build" || return
	mkdir -p "$work/guest/etc"
	echo root:x:0:0:root:/:/bin/sh > "$work/guest/etc/passwd"
	echo 127.0.0.1 localhost guest > "$work/guest/etc/hosts"
	rdma_plugins
}
