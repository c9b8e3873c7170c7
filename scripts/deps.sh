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

# is_installed NAMES - a package, with | between its names
is_installed()
{
	local names said

	IFS='|' read -ra names <<< "$1"
	# it fails if one of the names is unknown
	said=$(dpkg-query -W -f '${db:Status-Status} ' "${names[@]}" 2>/dev/null) || :
	[[ " $said" = *" installed "* ]]
}

# names_here NAMES... - the name that each package has in this release: the first that apt knows
names_here()
{
	local package name names here

	for package in "$@"; do
		IFS='|' read -ra names <<< "$package"
		here=${names[0]}
		for name in "${names[@]}"; do
			# of a name that only other packages mention it shows nothing
			if [ -n "$(apt-cache show "$name" 2>/dev/null)" ]; then
				here=$name
				break
			fi
		done
		echo "$here"
	done
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
	is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then
	exit 0
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
	as_root=(sudo -n)
	if ! sudo -n true 2>/dev/null; then
		echo "Packages are missing. Type this line, then the command again:" >&2
		echo "sudo apt-get install -y $(names_here "${missing[@]}" | xargs)" >&2
		exit 1
	fi
fi

# A machine that was never updated knows no packages. If another apt is running, wait for it.
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
"${as_root[@]}" "${apt[@]}" update </dev/null
mapfile -t missing < <(names_here "${missing[@]}")
echo "installing ${missing[*]}"
"${as_root[@]}" "${apt[@]}" install -y --no-install-recommends "${missing[@]}" \
	</dev/null >/dev/null
