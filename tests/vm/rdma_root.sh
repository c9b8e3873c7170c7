#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# rdma_root.sh -s SUITE - build the tests of RDMA in a root of another Debian
#
# INVLOCK_TARGETS names what to build. INVLOCK_OUT is a folder, where each target is put under its
# own name, and the libraries that these need. The file `root` there says in which root programs of
# that Debian find all others. The root is kept, as tests/package/roots.sh explains.
# shellcheck source=tests/package/roots.sh
. "$(dirname "$0")/../package/roots.sh"

packages()
{
	{ packages_of make build rdma; echo libcmocka-dev; } | sort -u | paste -sd ,
}

build()
{
	local target targets library src=$work/rdma/merged/src/invlock

	read -ra targets <<< "$INVLOCK_TARGETS"
	enter_root rdma && copy_source rdma /src/invlock &&
	in_source rdma scripts/build.sh build "${targets[@]}" -- -Dtests=enabled || return
	for library in "$src"/build/{lib,adapters/*}/*.so.0; do
		[ ! -e "$library" ] || targets+=("${library#"$src/build/"}")
	done
	for target in "${targets[@]}"; do
		mkdir -p "$INVLOCK_OUT/$(dirname "$target")" &&
		cp -L "$src/build/$target" "$INVLOCK_OUT/$target" || return
	done
}

base_root rdma "$(packages)" > "$work/log" 2>&1 || bail_out "the root is not made"
build > "$work/log" 2>&1 || bail_out "the tests are not built"
echo "${base[rdma]}" > "$INVLOCK_OUT/root"
