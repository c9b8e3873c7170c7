#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# deps.sh GROUP... - install the packages of these groups (scripts/packages)
#
# Installs missing packages if apt-get can be used without a question: as root, or with a sudo that
# asks for no password. Elsewhere it prints the command to type, and fails.
set -euo pipefail

list=$(dirname "$0")/packages

wanted()
{
	local group

	for group in "$@"; do
		awk -v group="$group" '$1 == group { print $2 }' "$list"
	done
}

installed()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if [ $# = 0 ]; then
	echo "deps.sh: name at least one group of $list" >&2
	exit 2
fi
if ! command -v dpkg-query >/dev/null; then
	echo "deps.sh: not a Debian system, so nothing is installed." \
	     "These packages are needed; the names are Debian's: $(wanted "$@" | xargs)"
	exit 0
fi

missing=()
for package in $(wanted "$@"); do
	installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then
	exit 0
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
	as_root=(sudo -n)
	if ! sudo -n true 2>/dev/null; then
		echo "Packages are missing. Type this line, then the command again:" >&2
		echo "sudo apt-get install -y ${missing[*]}" >&2
		exit 1
	fi
fi

echo "installing ${missing[*]}"
# A machine that was never updated knows no packages. If another apt is running, wait for it.
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
"${as_root[@]}" "${apt[@]}" update </dev/null
"${as_root[@]}" "${apt[@]}" install -y --no-install-recommends "${missing[@]}" \
	</dev/null >/dev/null
