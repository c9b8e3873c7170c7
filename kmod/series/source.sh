# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What make.sh and check.sh share: the folders, and the newest source of the kernel that Debian has,
# unpacked into the cache and never kept in this tree. Sets series, root, patches, where the series
# goes, and work, which is removed at the end; source_get sets source, its folder, and version.

series=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$series/../.." && pwd)
patches=${BUILD:-$root/build}/kernel-series
work=$(mktemp -d "${TMPDIR:-/tmp}/invlock-series.XXXXXX")
trap 'rm -rf "$work"' EXIT
skip()
{
	echo "1..0 # SKIP the patches for the kernel: $*"
	exit 77
}

# shellcheck source=tests/vm/kernel.sh
. "$root/tests/vm/kernel.sh"

source_fetch()	# DIR
{
	local package

	rm -rf "$1.new" && mkdir -p "$1.new" && private_apt "$1.new/apt" sid || return
	local -x APT_CONFIG=$1.new/apt/apt.conf
	package=$(packages_with linux-source | grep -E '^linux-source-[0-9.]+$') &&
	unpack "$1.new" "$package" &&
	tar -C "$1.new" -xf "$1.new/root/usr/src/$package.tar.xz" --strip-components=1 &&
	rm -r "$1.new/root" "$1.new/apt" && mv "$1.new" "$1"
}

# remove the folder to fetch again
source_get()
{
	# shellcheck disable=SC2154 # kernel.sh sets it
	source=$cache/source-newest
	[ -d "$source" ] || alone fetch source_fetch "$source" > "$work/fetch.log" 2>&1 ||
		skip "cannot get linux-source: $(tail -n 1 "$work/fetch.log")"
	version=$(make -s -C "$source" kernelversion)
}
