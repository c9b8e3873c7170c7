# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What goes into the guest: the module, stock modules, the tests with their libraries, init.

# stock modules that the tests use, with whatever they depend on
stock_modules="lzo-rle zram"

# built in a copy: the source tree stays clean
module_build()
{
	mkdir -p "$work/src" && cp -a "$root"/{core,include,kmod} "$work/src/" &&
	make -s -C "$kernel_build" M="$work/src/kmod" CONFIG_DEBUG_INFO_BTF_MODULES= modules
}

compile()
{
	gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Wno-sign-compare \
		-Wno-missing-field-initializers -DINVLOCK_VERSION='"guest"' -pthread \
		-I"$root" -I"$root/include" -I"$root/include/uapi" "$@"
}

# the library with the monitors that need no other library
guest_library()
{
	local source sources=()

	for source in "$root"/lib/*.c; do
		case $source in *monitor_bpf*|*monitor_uffd*) ;; *) sources+=("$source") ;; esac
	done
	mkdir -p "$work/objects/core" "$work/objects/lib" &&
	(cd "$work/objects/core" && compile -c "$root"/core/*.c) &&
	(cd "$work/objects/lib" && sources+=("$here/guest_monitors.c") &&
	 compile -DHAVE_MONITOR_KMOD -DHAVE_SELFTEST -c "${sources[@]}") &&
	# q: both folders have a section.o
	ar qcs "$work/libguest.a" "$work"/objects/*/*.o
}

guest_programs()
{
	local source name

	mkdir -p "$work/guest/tests"
	guest_library || return
	for source in "$here"/test_*.c; do
		name=$(basename "$source" .c)
		compile -o "$work/guest/tests/${name#test_}" "$source" "$work/libguest.a" \
			-lcmocka || return
	done
	gcc -O2 -Wall -Wextra -Werror -static -o "$work/guest/vm_exit" "$here/vm_exit.c"
}

guest_stock_modules()
{
	local file base

	[ -f "$kernel_modules/lib/modules/$kernel_version/modules.dep" ] ||
		depmod -b "$kernel_modules" "$kernel_version"
	for module in $stock_modules; do
		modprobe -d "$kernel_modules" -S "$kernel_version" --show-depends "$module" \
			2> /dev/null
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		base=$(basename "$file" .xz)
		case $file in
		*.xz) xz -dc "$file" > "$work/guest/modules/$base" ;;
		*) cp "$file" "$work/guest/modules/$base" ;;
		esac
		echo "$base"
	done > "$work/guest/modules/order"
}

guest_pack()
{
	local guest=$work/guest library

	mkdir -p "$guest"/{bin,dev,modules,proc,sys,tmp,var/tmp}
	cp "$work/src/kmod/invlock.ko" "$guest/modules/"
	cp "$(command -v busybox)" "$guest/bin/busybox"
	cp "$here/init" "$here/planted" "$guest/"
	guest_stock_modules
	ldd "$guest"/tests/* | grep -oE '/[^ ]+\.so[^ ]*' | sort -u | while read -r library; do
		mkdir -p "$guest$(dirname "$library")" && cp -L "$library" "$guest$library"
	done
	(cd "$guest" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 > "$work/initrd"
}
