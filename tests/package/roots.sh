# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Roots of Debian in which a test can do as it likes. The scripts of this folder source this file,
# and have one option: [-s SUITE].
#
# SUITE is bookworm (Debian 12, the default), trixie (Debian 13) or sid. A root is made once, from
# the mirror of this machine, and kept in $INVLOCK_CACHE/package, or /var/cache/invlock/package,
# under a name that stands for the list of its packages: remove it there to have it made anew. What
# a run writes into a root goes to an overlay that is thrown away. Where this machine cannot make
# roots, the script ends with a skip.
set -uo pipefail
script=$(realpath "$0")
root=$(realpath "$(dirname "$script")/../..")
cache=${INVLOCK_CACHE:-/var/cache/invlock}/package
suite=bookworm
if [ $# = 2 ] && [ "$1" = -s ]; then
	suite=$2
elif [ $# != 0 ]; then
	echo "usage: $(basename "$0") [-s SUITE]" >&2
	exit 2
fi
nr=0
failed=0

skip_all()	# WHY
{
	echo "1..0 # SKIP $1"
	exit 0
}

bail_out()	# WHY
{
	echo "Bail out! $1"
	sed 's/^/# /' "$work/log" | tail -n 30
	exit 1
}

[ "$(id -u)" = 0 ] || skip_all "a root to install packages in needs root"
command -v mmdebstrap > /dev/null || skip_all "mmdebstrap is missing: scripts/deps.sh package"

# everything below happens in a mount namespace: what is mounted goes with it
if [ -z "${INVLOCK_PACKAGE_INSIDE:-}" ]; then
	unshare --mount true || skip_all "this machine allows no mount namespace"
	exec env INVLOCK_PACKAGE_INSIDE=1 unshare --mount "$script" -s "$suite"
fi
work=$(mktemp -d)
trap 'umount -l "$work"/*/merged "$work" 2> /dev/null; rm -rf "$work"' EXIT
mount -t tmpfs -o size=4g tmpfs "$work" || exit 1

# prints the packages of these groups of scripts/packages, by the names that they have in this suite
packages_of()	# GROUP...
{
	awk -v groups=" $* " 'index(groups, " " $1 " ") { print $2 }' "$root/scripts/packages" |
		if [ "$suite" = bookworm ]; then sed 's/|.*//'; else sed 's/.*|//'; fi
}

declare -A base	# the folder of each root, by its name

# base_root NAME PACKAGES [ARCHITECTURES] - make a root with these packages unless it is there
base_root()
{
	local dir
	dir=$cache/$suite-$1-$(echo "$2 ${3:-}" | cksum | cut -d ' ' -f 1)
	base[$1]=$dir
	# a root that is there need not wait for one that is being made
	[ ! -d "$dir" ] || return 0

	mkdir -p "$cache" && (
		flock 9 || exit
		[ -d "$dir" ] && exit
		rm -rf "$dir.new" &&
		"$root/tests/vm/mirror.py" "$suite" > "$work/mirror.sources" &&
		mmdebstrap --quiet --variant=minbase --include="$2" \
			--aptopt='APT::Install-Recommends "false"' \
			--aptopt='Acquire::Check-Valid-Until "false"' \
			--architectures="${3:-amd64}" \
			"$suite" "$dir.new" "$work/mirror.sources" && mv "$dir.new" "$dir"
	) 9> "$cache/lock"
}

# enter_root NAME [BASE] - mount the root BASE (NAME) as NAME, with what programs in it need
#
# Packages that earlier runs have fetched are there: see keep_debs.
enter_root()
{
	local merged=$work/$1/merged debs=$cache/$suite-debs

	mkdir -p "$work/$1"/{upper,work,merged,debs,debs-work} "$debs" &&
	mount -t overlay overlay "$merged" -o \
		"lowerdir=${base[${2:-$1}]},upperdir=$work/$1/upper,workdir=$work/$1/work" &&
	mount -t proc proc "$merged/proc" && mount --rbind /sys "$merged/sys" &&
	mount --rbind /dev "$merged/dev" &&
	mount -t overlay overlay "$merged/var/cache/apt/archives" -o \
		"lowerdir=$debs,upperdir=$work/$1/debs,workdir=$work/$1/debs-work" &&
	cp /etc/resolv.conf /etc/hosts "$merged/etc/"
}

# keep_debs NAME - keep what apt-get has fetched there for the next run
keep_debs()
{
	local deb to

	for deb in "$work/$1"/debs/*.deb; do
		to=$cache/$suite-debs/$(basename "$deb")
		[ ! -f "$deb" ] || [ -e "$to" ] || { cp "$deb" "$to.$$" && mv "$to.$$" "$to"; }
	done
}

# copy_source NAME FOLDER - put what is in this tree, but for builds, into that folder there
copy_source()
{
	local to=$work/$1/merged$2

	mkdir -p "$to" &&
	(cd "$root" && tar -c --exclude=./build* --exclude=./.git .) | tar -x -C "$to"
}

inside()	# NAME COMMAND...
{
	chroot "$work/$1/merged" /usr/bin/env -i LC_ALL=C.UTF-8 HOME=/root \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		DEBIAN_FRONTEND=noninteractive "${@:2}" < /dev/null
}

# in_source NAME COMMAND... - where copy_source has put /src/invlock
in_source()
{
	inside "$1" sh -c 'cd /src/invlock && exec "$@"' sh "${@:2}"
}

try()	# TITLE COMMAND...
{
	nr=$((nr + 1))
	if "${@:2}" > "$work/log" 2>&1; then
		echo "ok $nr - $1"
	else
		echo "not ok $nr - $1"
		sed 's/^/# /' "$work/log" | tail -n 40
		failed=1
	fi
}
