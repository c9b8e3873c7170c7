# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Kernels for the guest: Debian's packages, unpacked into the cache and never installed, so
# that no maintainer script runs on this machine; and kernels built from its linux-source.
#
# kernel_get sets	kernel_version	as uname -r prints it in the guest
#			kernel_image	what QEMU boots
#			kernel_build	the folder that modules are built against
#			kernel_modules	the root of its own modules, if it has any
#			kernel_options	for the kernel's command line
#			kernel_chroot	a root with the compiler that this kernel needs; or nothing

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${INVLOCK_CACHE:-${XDG_CACHE_HOME:-/var/cache}/invlock}/vm
# Debian's kernel for clouds boots fastest; amd64 is the one that has drivers for RDMA
flavour=cloud-amd64
every_kernel="6.1 6.12 newest rt debug kcsan"
arm64_kernels="arm64 arm64-6.12 arm64-16k"

# waits until no other run of this script holds the lock of this name, and runs a command
alone()	# LOCK COMMAND...
{
	mkdir -p "$cache" || skip "cannot make $cache; set INVLOCK_CACHE"
	(flock 9 && "${@:2}" 9>&-) 9> "$cache/$1"
}

need_tools()	# COMMAND:PACKAGE...
{
	local missing=() pair

	for pair; do
		command -v "${pair%:*}" > /dev/null || missing+=("${pair#*:}")
	done
	[ ${#missing[@]} -eq 0 ] && return
	[ "$(id -u)" = 0 ] || skip "apt-get install ${missing[*]}"
	alone apt apt_install "${missing[@]}" > "$work/apt.log" 2>&1 ||
		skip "cannot install ${missing[*]}: $(tail -n 1 "$work/apt.log")"
}

apt_install()	# PACKAGE...
{
	apt-get -qq update &&
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@"
}

# runs apt-get update with settings of its own: as if nothing were installed here, for a suite that
# this machine does not use, from the mirror that it does use
private_apt()	# DIR SUITE [ARCHITECTURE]
{
	local architecture=${3:-$(dpkg --print-architecture)}

	mkdir -p "$1"/{lists/partial,archives/partial,sources,empty}
	"$here/mirror.py" bookworm "$2" > "$1/sources/debian.sources" || return
	: > "$1/status"
	cat > "$1/apt.conf" <<-END
	Dir::Etc::SourceList "$1/none";
	Dir::Etc::SourceParts "$1/sources";
	Dir::Etc::Preferences "$1/none";
	Dir::Etc::PreferencesParts "$1/empty";
	Dir::State::Lists "$1/lists";
	Dir::State::status "$1/status";
	Dir::Cache::archives "$1/archives";
	Dir::Cache::pkgcache "";
	Dir::Cache::srcpkgcache "";
	APT::Architecture "$architecture";
	APT::Architectures { "$architecture"; "$(dpkg --print-architecture)"; };
	Acquire::Languages "none";
	Acquire::Check-Valid-Until "false";
	APT::Default-Release "$2";
	END
	APT_CONFIG=$1/apt.conf apt-get -qq update
}

# the packages that apt would install for these on an empty system
packages_with()	# PACKAGE...
{
	apt-get -q -o Dir::State::status=/dev/null -o Dir::Cache::pkgcache= \
		-o Dir::Cache::srcpkgcache= install --no-install-recommends --print-uris \
		-y "$@" 2> /dev/null |
	sed -n "s|^'[^']*' \([^_]*\)_.*|\1|p"
}

# of those packages, the ones that belong to the kernel
kernel_packages()
{
	packages_with "linux-image-$flavour" "linux-headers-$flavour" | grep '^linux-' |
	grep -vE "^linux-(image|headers)-$flavour\$|^linux-(compiler|libc)-|^linux-base\$" |
	# the scripts that build modules run here
	if is_arm64; then sed 's/^linux-kbuild-.*/&:amd64/'; else cat; fi
}

unpack()	# DIR PACKAGE...: into DIR/root
{
	local dir=$1 deb

	shift
	mkdir -p "$dir/debs" && [ $# -gt 0 ] || return
	(cd "$dir/debs" && apt-get -qq -o APT::Sandbox::User=root download "$@") || return
	for deb in "$dir"/debs/*.deb; do
		dpkg -x "$deb" "$dir/root" || return
	done
	rm -r "$dir/debs"
}

kernel_download()	# DIR [SUITE]
{
	local dir=$1 suite=${2-} new=$1.new packages

	rm -rf "$new" && mkdir -p "$new" || return
	if [ -n "$suite" ]; then
		private_apt "$new/apt" "$suite" "$(guest_architecture)" || return
		local -x APT_CONFIG=$new/apt/apt.conf
	elif [ -z "$(kernel_packages)" ]; then
		apt-get -qq update || return
	fi
	if [ "$suite" = sid ]; then
		# its modules need a newer compiler and libc than this machine has: make a root that
		# has both
		mkdir -p "$new/root/"{dev,proc,tmp,usr/{bin,sbin,lib,lib64}} &&
		for link in bin sbin lib lib64; do ln -s "usr/$link" "$new/root/$link"; done
		mapfile -t packages < <(packages_with "linux-image-$flavour" \
			"linux-headers-$flavour" make dash coreutils sed grep mawk findutils)
		unpack "$new" "${packages[@]}" && ln -s mawk "$new/root/usr/bin/awk" || return
	else
		mapfile -t packages < <(kernel_packages)
		unpack "$new" "${packages[@]}" || return
		# the headers' Makefiles name each other by the path of an installation
		sed -i "s|/usr/src/|$dir/root/usr/src/|" \
			"$new/root/usr/src"/linux-headers-*-"$flavour/Makefile"
	fi
	rm -rf "$new/apt" "$dir" && mv "$new" "$dir"
}

kernel_from_packages()	# NAME [SUITE]
{
	local dir=$cache/$1

	[ "$flavour" != amd64 ] || dir+=-generic
	if [ ! -d "$dir/root" ]; then
		kernel_download "$dir" "${@:2}" > "$work/fetch.log" 2>&1 ||
			skip "cannot get the packages of kernel $1: $(tail -n 1 "$work/fetch.log")"
	fi
	kernel_modules=$dir/root
	kernel_build=$(echo "$dir"/root/usr/src/linux-headers-*-"$flavour")
	kernel_version=${kernel_build#*/linux-headers-}
	kernel_image=$(find "$dir/root/boot" "$dir/root/usr/lib/modules" -name 'vmlinuz*' \
		2> /dev/null)
}

# the kernel that sid had when it was first fetched; remove the folder to fetch again
kernel_from_sid()	# NAME: newest, or 7.2 for no other
{
	[ "$(id -u)" = 0 ] || skip "kernel $1 is built in a chroot, which needs root"
	kernel_from_packages sid sid
	case $1/$kernel_version in
	newest/*|"$1/$1"*) ;;
	*) skip "$kernel_modules has $kernel_version, not $1; K=newest takes whatever is there" ;;
	esac
	kernel_chroot=$kernel_modules
	kernel_build=${kernel_build#"$kernel_chroot"}
}

source_download()	# DIR
{
	rm -rf "$1.new" &&
	if ! apt-cache show linux-source-6.1 > /dev/null 2>&1; then apt-get -qq update; fi &&
	unpack "$1.new" linux-source-6.1 &&
	tar -C "$1.new" -xf "$1.new"/root/usr/src/linux-source-6.1.tar.xz --strip-components=1 &&
	rm -r "$1.new/root" && mv "$1.new" "$1"
}

source_build()	# SOURCE OUT CONFIG
{
	rm -rf "$2" && mkdir -p "$2" &&
	make -s -C "$1" O="$2" KCONFIG_ALLCONFIG="$3" allnoconfig || return
	# an option that was not accepted would be missing without a word
	grep '^CONFIG' "$3" | grep -vxFf "$2/.config" && return 1
	nice make -s -C "$1" O="$2" -j "$(nproc)" bzImage modules
}

# 6.1 with everything that helps to find faults: NAME.config comes on top of guest.config
kernel_from_source()	# NAME
{
	local dir=$cache/$1 source=$cache/source

	cat "$here/guest.config" "$here/$1.config" > "$work/config"
	if ! cmp -s "$work/config" "$dir/built"; then
		need_tools flex:flex bison:bison bc:bc
		[ -e /usr/include/gelf.h ] || need_tools libelf:libelf-dev
		if [ ! -d "$source" ]; then
			source_download "$source" > "$work/fetch.log" 2>&1 ||
				skip "cannot get linux-source-6.1: $(tail -n 1 "$work/fetch.log")"
		fi
		echo "# building kernel $1, once: this takes a while"
		if ! source_build "$source" "$dir" "$work/config" > "$work/build.log" 2>&1; then
			tail -n 40 "$work/build.log"
			fail "kernel $1 does not build"
		fi
		cp "$work/config" "$dir/built"
	fi
	kernel_version=$(cat "$dir/include/config/kernel.release")
	kernel_image=$dir/arch/x86/boot/bzImage
	kernel_build=$dir
	# two NUMA nodes without ACPI; KASAN reports every use after free, not only the first
	kernel_options="numa=fake=2 kasan_multi_shot"
}

kernel_get()	# NAME
{
	kernel_chroot=
	kernel_modules=
	kernel_options=
	mkdir -p "$cache" || skip "cannot make $cache; set INVLOCK_CACHE"
	exec {lock}> "$cache/lock"
	# one at a time: another run may be fetching the same kernel
	flock "$lock"
	# 7.x is the old name of newest
	[ "$1" != 7.x ] || set -- newest
	case $1 in
	6.1) kernel_from_packages "$1" ;;
	6.12) kernel_from_packages "$1" bookworm-backports ;;
	rt) flavour=rt-amd64 kernel_from_packages "$1" ;;
	newest|7.*) kernel_from_sid "$1" ;;
	debug|kcsan) kernel_from_source "$1" ;;
	arm64) flavour=cloud-arm64 kernel_from_packages "$1" bookworm ;;
	arm64-6.12) flavour=cloud-arm64 kernel_from_packages "$1" bookworm-backports ;;
	arm64-16k) flavour=arm64-16k kernel_from_packages "$1" bookworm-backports ;;
	*) fail "there is no kernel \"$1\" here: $every_kernel $arm64_kernels are known" ;;
	esac
	! is_arm64 || sysroot_get
	flock -u "$lock"
}

# QEMU before 8.1 may go on executing code that another CPU has just patched: the kernel then dies
# of a breakpoint that is long gone. Newer kernels patch code whenever a program is attached to a
# function or leaves it. So they run in Debian 13's QEMU, which is unpacked and never installed.
qemu_get()	# NAME: sets qemu, the command and its first arguments
{
	local dir=$cache/qemu lib

	qemu=(qemu-system-x86_64)
	if is_arm64; then
		qemu=(qemu-system-aarch64)
		return
	fi
	[[ "$1" = @(newest|7.*) ]] || return
	[ "$(qemu_version)" -lt 801 ] || return
	exec {lock}> "$cache/lock"
	flock "$lock"
	[ -d "$dir/root" ] || qemu_download "$dir" > "$work/fetch.log" 2>&1 ||
		skip "cannot get QEMU from Debian 13: $(tail -n 1 "$work/fetch.log")"
	flock -u "$lock"
	lib=$dir/root/usr/lib
	qemu=("$lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path
		"$lib/x86_64-linux-gnu:$lib" "$dir/root/usr/bin/qemu-system-x86_64"
		-L "$dir/root/usr/share/qemu" -L "$dir/root/usr/share/seabios")
}

# prints 702 for 7.2
qemu_version()
{
	qemu-system-x86_64 --version |
	sed -n 's/.*version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' |
	while read -r major minor; do echo $((major * 100 + minor)); done
}

qemu_download()	# DIR
{
	local new=$1.new packages

	rm -rf "$new" && mkdir -p "$new" && private_apt "$new/apt" trixie || return
	local -x APT_CONFIG=$new/apt/apt.conf
	mapfile -t packages < <(packages_with qemu-system-x86)
	unpack "$new" "${packages[@]}" && rm -rf "$new/apt" "$1" && mv "$new" "$1"
}

# runs make with the kernel's own compiler; $work has the same path in that root
kernel_make()	# ARGUMENT...
{
	if is_arm64; then
		make -s -C "$kernel_build" ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- "$@"
		return
	fi
	if [ -z "$kernel_chroot" ]; then
		make -s -C "$kernel_build" "$@"
		return
	fi
	# the mounts end with this process
	unshare --mount --propagation private /bin/sh -c '
		root=$0 work=$1; shift
		mount --bind /dev "$root/dev" && mount -t proc proc "$root/proc" &&
		mount -t tmpfs tmp "$root/tmp" && mkdir -p "$root$work" &&
		mount --bind "$work" "$root$work" &&
		exec chroot "$root" /usr/bin/env -i PATH=/usr/bin LC_ALL=C make -s -C "$@"
	' "$kernel_chroot" "$work" "$kernel_build" "$@"
}
