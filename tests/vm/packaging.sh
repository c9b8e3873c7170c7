# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Checks of the module that run outside the guest: sparse, checkpatch, DKMS. Prints TAP.

# checkpatch takes kmod/compat for a patch to the kernel itself, and uapi headers have no BIT macro
patch_rules="--no-tree --strict --terse --show-types
	--ignore LINUX_VERSION_CODE,CONSTANT_COMPARISON,BIT_MACRO"

try()	# TITLE COMMAND...
{
	echo "1..1"
	if "${@:2}" > "$work/try.log" 2>&1; then
		echo "ok 1 - $1"
	else
		echo "not ok 1 - $1"
		sed 's/^/# /' "$work/try.log"
	fi
}

skipped()	# TITLE REASON
{
	printf '1..1\nok 1 - %s # SKIP %s\n' "$1" "$2"
}

fails()
{
	! "$@"
}

with_sparse()	# FOLDER TARGET
{
	kernel_make M="$1" C=2 CF=-Wsparse-error CONFIG_DEBUG_INFO_BTF_MODULES= "$2"
}

with_checkpatch()	# FILE...
{
	# shellcheck disable=SC2086 # each word is an argument
	perl "$cache/source/scripts/checkpatch.pl" $patch_rules -f "$@"
}

# builds as on a machine that has the sources in /usr/src, but in a root that is thrown away
dkms_builds()
{
	local dir=$work/dkms version

	version=$(sed -n 's/PACKAGE_VERSION="\(.*\)"/\1/p' "$root/dkms.conf")
	mkdir -p "$dir"/{tree,modules} "$dir/src/invlock-$version" &&
	cp -a "$root"/{core,include,kmod,dkms.conf} "$dir/src/invlock-$version/" &&
	dkms build "invlock/$version" -k "$kernel_version" --kernelsourcedir "$kernel_build" \
		--dkmstree "$dir/tree" --sourcetree "$dir/src" --installtree "$dir/modules" &&
	modinfo -F vermagic "$dir/tree/invlock/$version/$kernel_version"/*/module/invlock.ko* |
	grep -q "^$kernel_version "
}

packaging()
{
	local bad=$work/sparse/kmod

	# pahole: the headers of newer kernels depend on it
	need_tools sparse:sparse dkms:dkms pahole:pahole
	mkdir "$work/sparse" && cp -a "$root"/{core,include,kmod} "$work/sparse/"
	if [ -n "$kernel_chroot" ]; then
		skipped "sparse finds nothing in the module" "the root of $kernel_version has none"
		skipped "dkms builds the module" "the root of $kernel_version has none"
		return
	fi
	try "sparse finds nothing in the module" with_sparse "$bad" modules
	echo 'int *bad(int __user *p); int *bad(int __user *p) { return p; }' >> "$bad/core.c"
	try "planted: sparse finds a pointer to user space that became one to the kernel" \
		fails with_sparse "$bad" core.o
	try "dkms builds the module" dkms_builds
	if [ ! -e "$cache/source/scripts/checkpatch.pl" ]; then
		skipped "checkpatch finds nothing in the module" \
			"no linux-source in $cache: K=debug gets it"
		return
	fi
	try "checkpatch finds nothing in the module" \
		with_checkpatch "$root"/kmod/*.c "$root"/{kmod,kmod/compat,include/uapi/invlock}/*.h
	printf '%s\n' '/* SPDX-License-Identifier: GPL-2.0-only */' 'int bad( int nr );' \
		> "$bad/space.h"
	try "planted: checkpatch finds a space in the wrong place" \
		fails with_checkpatch "$bad/space.h"
}
