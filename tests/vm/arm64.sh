# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# arm64 guests: what differs from kernel.sh and guest.sh when the guest is another machine. Nothing
# of arm64 is installed here but a cross compiler and an emulator: libraries and kernels are
# unpacked into the cache.

arm64_tools="aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu aarch64-linux-gnu-g++:g++-aarch64-linux-gnu
	qemu-system-aarch64:qemu-system-arm"

# what the library, the tools and the tests are built with, and what the guest runs
arm64_packages="libc6 libc6-dev linux-libc-dev libcrypt1 libcrypt-dev zlib1g zlib1g-dev libzstd1
	libzstd-dev libelf1 libelf-dev libbpf1 libbpf-dev libcmocka0 libcmocka-dev libjson-c5
	libjson-c-dev liburing2 liburing-dev libgcc-s1 libstdc++6 busybox-static util-linux"

is_arm64()
{
	[[ "$kernel" = arm64* ]]
}

# as Debian names it
guest_architecture()
{
	if is_arm64; then echo arm64; else dpkg --print-architecture; fi
}

# sets sysroot, a root with the libraries of this machine's release
sysroot_get()
{
	sysroot=$cache/arm64-libraries/root
	[ -d "$sysroot" ] || sysroot_download "$cache/arm64-libraries" > "$work/fetch.log" 2>&1 ||
		skip "cannot get the libraries for arm64: $(tail -n 1 "$work/fetch.log")"
}

sysroot_download()	# DIR
{
	local new=$1.new dir

	rm -rf "$new" && mkdir -p "$new" && private_apt "$new/apt" bookworm arm64 || return
	# shellcheck disable=SC2086 # each word is a package
	APT_CONFIG=$new/apt/apt.conf unpack "$new" $arm64_packages || return
	# the packages of this release expect that an installation has merged these folders
	for dir in bin lib sbin; do
		mkdir -p "$new/root/usr/$dir" && cp -a "$new/root/$dir/." "$new/root/usr/$dir/" &&
		rm -r "${new:?}/root/$dir" && ln -s "usr/$dir" "$new/root/$dir" || return
	done
	rm -rf "$new/apt" "$1" && mv "$new" "$1"
}

# prints a cross file for Meson
cross_file()
{
	cat <<-END
	[binaries]
	c = ['aarch64-linux-gnu-gcc', '--sysroot=$sysroot']
	cpp = ['aarch64-linux-gnu-g++', '--sysroot=$sysroot']
	ar = 'aarch64-linux-gnu-ar'
	ld = 'aarch64-linux-gnu-ld'
	objcopy = 'aarch64-linux-gnu-objcopy'
	strip = 'aarch64-linux-gnu-strip'
	pkgconfig = 'pkg-config'
	[properties]
	sys_root = '$sysroot'
	pkg_config_libdir = '$sysroot/usr/lib/aarch64-linux-gnu/pkgconfig'
	needs_exe_wrapper = true
	[host_machine]
	system = 'linux'
	cpu_family = 'aarch64'
	cpu = 'aarch64'
	endian = 'little'
	END
}

# prints the libraries that the programs in its input need
arm64_libraries()
{
	local todo seen=" " file name

	mapfile -d "" todo
	while [ ${#todo[@]} -gt 0 ]; do
		file=${todo[0]}
		todo=("${todo[@]:1}")
		while read -r name; do
			[[ "$seen" != *" $name "* ]] || continue
			seen+="$name "
			name=/usr/lib/aarch64-linux-gnu/$name
			echo "$name"
			todo+=("$sysroot$name")
		done < <(readelf -d "$file" 2> /dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
	done
}
