#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# fetch.sh - print the command that runs CBMC, one word on each line
#
# Debian 12 has no CBMC. The package of Debian 13 is unpacked into the cache, with the libraries
# that it needs, and runs with their loader. Nothing is installed. If it cannot be had, this script
# exits with 77 and prints the reason.
set -u -o pipefail

skip()
{
	echo "$*"
	exit 77
}

# shellcheck source=tests/vm/kernel.sh
. "$(dirname "$0")/../vm/kernel.sh"	# private_apt; it has a cache of its own
cache=${INVLOCK_CACHE:-${XDG_CACHE_HOME:-/var/cache}/invlock}/cbmc

download()
{
	local deb

	mkdir -p "$1/debs" && private_apt "$1/apt" trixie || return
	(cd "$1/debs" && APT_CONFIG=$1/apt/apt.conf apt-get -qq -o APT::Sandbox::User=root \
		download cbmc minisat libc6 libgcc-s1 libstdc++6 zlib1g) || return
	for deb in "$1"/debs/*.deb; do
		dpkg -x "$deb" "$1/root" || return
	done
	rm -rf "$1/debs" "$1/apt"
}

if command -v cbmc; then
	exit 0
fi
[ "$(dpkg --print-architecture 2>&1)" = amd64 ] || skip "CBMC is fetched for Debian on amd64 only"
if [ ! -d "$cache/root" ]; then
	mkdir -p "${cache%/*}" || skip "cannot make $cache; set INVLOCK_CACHE"
	new=$(mktemp -d "$cache.XXXXXX") || skip "cannot write beside $cache; set INVLOCK_CACHE"
	trap 'rm -rf "$new"' EXIT
	if ! download "$new" > "$new/log" 2>&1; then
		skip "cannot get CBMC from Debian 13: $(tail -n 1 "$new/log")"
	fi
	# another run may have been faster
	mv -T "$new" "$cache" 2>/dev/null || [ -d "$cache/root" ] || skip "cannot write $cache"
fi
lib=$cache/root/usr/lib
printf '%s\n' "$lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path \
	"$lib/x86_64-linux-gnu:$lib" "$cache/root/usr/bin/cbmc"
