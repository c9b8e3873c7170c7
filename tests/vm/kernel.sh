# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Kernels for the guest: Debian's packages, unpacked into the cache and never installed, so
# that no maintainer script runs on this machine.
#
# kernel_get sets	kernel_version	as uname -r in the guest
#			kernel_image	what QEMU boots
#			kernel_build	where modules are built against it

cache=${INVLOCK_CACHE:-${XDG_CACHE_HOME:-/var/cache}/invlock}/vm

need_tools()
{
	local missing=() pair

	for pair in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio gcc:gcc \
		    make:make kmod:kmod xz:xz-utils; do
		command -v "${pair%:*}" > /dev/null || missing+=("${pair#*:}")
	done
	[ -e /usr/include/cmocka.h ] || missing+=(libcmocka-dev)
	[ ${#missing[@]} -eq 0 ] && return
	[ "$(id -u)" = 0 ] || skip "apt-get install ${missing[*]}"
	apt-get -qq update &&
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends \
		"${missing[@]}" > "$work/apt.log" 2>&1 ||
		skip "cannot install ${missing[*]}: $(tail -n 1 "$work/apt.log")"
}

# an apt of its own, as if nothing were installed here: a suite that this machine does not use
private_apt()	# DIR SUITE
{
	local suite keys=/usr/share/keyrings/debian-archive-keyring.gpg

	mkdir -p "$1"/{lists/partial,archives/partial,empty}
	for suite in bookworm "$2"; do
		echo "deb [signed-by=$keys] http://deb.debian.org/debian $suite main"
	done > "$1/sources.list"
	: > "$1/status"
	cat > "$1/apt.conf" <<-END
	Dir::Etc::SourceList "$1/sources.list";
	Dir::Etc::SourceParts "$1/empty";
	Dir::Etc::Preferences "$1/none";
	Dir::Etc::PreferencesParts "$1/empty";
	Dir::State::Lists "$1/lists";
	Dir::State::status "$1/status";
	Dir::Cache::archives "$1/archives";
	Dir::Cache::pkgcache "";
	Dir::Cache::srcpkgcache "";
	Acquire::Languages "none";
	APT::Default-Release "$2";
	END
	APT_CONFIG=$1/apt.conf apt-get -qq update
}

# every package of the kernel itself that an installation of image and headers would pull in
kernel_packages()
{
	apt-get -q install --no-install-recommends --print-uris -y \
		linux-image-cloud-amd64 linux-headers-cloud-amd64 2> /dev/null |
	sed -n "s|^'.*/linux[^/]*/\(linux-[^/_]*\)_.*|\1|p" | sed 's/%2b/+/g' |
	grep -vE '^linux-(image|headers)-cloud-amd64$|^linux-compiler-'
}

kernel_download()	# DIR [SUITE]
{
	local dir=$1 packages

	rm -rf "$dir.new" && mkdir -p "$dir.new/debs" || return
	if [ -n "$2" ]; then
		private_apt "$dir.new/apt" "$2" || return
		local -x APT_CONFIG=$dir.new/apt/apt.conf
	elif [ -z "$(kernel_packages)" ]; then
		apt-get -qq update || return
	fi
	packages=$(kernel_packages)
	[ -n "$packages" ] || return
	# shellcheck disable=SC2086 # one word a package
	(cd "$dir.new/debs" && apt-get -qq -o APT::Sandbox::User=root download $packages) || return
	for deb in "$dir.new"/debs/*.deb; do
		dpkg -x "$deb" "$dir.new/root" || return
	done
	# the headers name each other by where they would be installed
	sed -i "s|/usr/src/|$dir/root/usr/src/|" \
		"$dir.new"/root/usr/src/linux-headers-*-cloud-amd64/Makefile
	rm -rf "$dir.new/debs" "$dir.new/apt" "$dir" && mv "$dir.new" "$dir"
}

kernel_get()	# NAME
{
	local dir=$cache/$1 suite=

	case $1 in
	6.1) ;;
	6.12) suite=bookworm-backports ;;
	*) fail "there is no kernel \"$1\" here: 6.1 and 6.12 are known" ;;
	esac
	if [ ! -d "$dir/root" ]; then
		mkdir -p "$cache" || skip "cannot make $cache; set INVLOCK_CACHE"
		kernel_download "$dir" "$suite" > "$work/fetch.log" 2>&1 ||
			skip "cannot get the packages of kernel $1: $(tail -n 1 "$work/fetch.log")"
	fi
	kernel_image=$(echo "$dir"/root/boot/vmlinuz-*)
	kernel_version=${kernel_image#*/vmlinuz-}
	kernel_build=$dir/root/usr/src/linux-headers-$kernel_version
	kernel_modules=$dir/root
}
