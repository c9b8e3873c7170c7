# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What goes into the guest: the module, stock modules, the tests with their libraries, init.

# stock modules, loaded with whatever they depend on: for swap, for memory that passes for
# persistent, on which a file system with DAX can be made, and for a disk in memory
stock_modules="lzo-rle zram nd_e820 nd_pmem brd ext4"

# the root that the guest mounts, which has its libraries; or nothing
userland=

# builds in a copy, so that the source tree stays clean
kbuild()	# FOLDER OPTION...
{
	kernel_make M="$work/src/$1" CONFIG_DEBUG_INFO_BTF_MODULES= "${@:2}" modules
}

drill_build()
{
	kbuild tests/vm/driver KBUILD_EXTRA_SYMBOLS="$work/src/kmod/Module.symvers"
}

module_build()
{
	mkdir -p "$work/src/tests/vm" "$work/guest/modules" &&
	cp -a "$root"/{core,include,kmod} "$work/src/" &&
	cp -a "$here/driver" "$work/src/tests/vm/" && kbuild kmod &&
	drill_build && cp "$work"/src/{kmod/invlock,kmod/invlock_test,tests/vm/driver/drill}.ko \
		"$work/guest/modules/" || return
	# only an x86 guest can choose QEMU's exit status
	is_arm64 || cp "$work/src/tests/vm/driver/vm_exit.ko" "$work/guest/modules/"
}

# Prints the faults of this run, one per line: NAME HOW TEST [WORDS]. HOW is "guest" if TEST must
# fail in the guest that runs all tests, or the kernel must say WORDS there; "boot" if it gets a
# guest of its own; and "module" if it only needs the module.
planted_list()
{
	local name tests boot where words log test

	{
		echo "end module lost_end"
		[ "$planted" = 0 ] || "$root/tests/plant.py" list "$here/planted" tests boot \
				      kernel words log | while IFS=$'\t' read -r name tests boot \
				      where words log; do
			[ "$where" = - ] || [ "$where" = "$kernel" ] || continue
			for test in ${tests#-}; do echo "$name guest $test ${log#-}"; done
			[ "$boot" = - ] || echo "$name boot $boot $words"
		done
	} | awk -v only="$only" 'only == "" || split($3, part, "/") && index(part[1], only)'
}

planted_build()
{
	planted_list > "$work/guest/planted" && planted_modules
}

# builds a module for each fault, one after the other, from a copy of the real one's sources
planted_modules()
{
	local name

	for name in $(cut -d ' ' -f 1 "$work/guest/planted" | sort -u); do
		"$root/tests/plant.py" copy "$here/planted" "$name" "$root" "$work/src" \
			core include kmod && kbuild kmod &&
		cp "$work/src/kmod/invlock.ko" "$work/guest/modules/invlock-$name.ko" &&
		cp "$work/src/kmod/invlock_test.ko" \
			"$work/guest/modules/invlock_test-$name.ko" || return
		# the drill has the functions of this header, too
		cmp -s "$root/kmod/mmu_invlock.h" "$work/src/kmod/mmu_invlock.h" || {
			drill_build && cp "$work/src/tests/vm/driver/drill.ko" \
				"$work/guest/modules/drill-$name.ko"
		} || return
	done
}

compile()
{
	local gcc=(gcc)

	# this compiler does not look into the folders of a root by itself
	! is_arm64 || gcc=(aarch64-linux-gnu-gcc --sysroot="$sysroot"
		-isystem "$sysroot/usr/include" -isystem "$sysroot/usr/include/aarch64-linux-gnu"
		"-L$sysroot/usr/lib/aarch64-linux-gnu")
	"${gcc[@]}" -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Wno-sign-compare \
		-Wno-missing-field-initializers -pthread \
		-I"$root" -I"$root/include" -I"$root/include/uapi" "$@"
}

# builds the library with the monitors that need no other library
guest_library()
{
	local sources

	mapfile -t sources < <(find "$root"/{lib,tool/changes} -name '*.c' \
		! -path '*/monitor/bpf/*' ! -path '*/monitor/uffd/*')
	mkdir -p "$work/objects/core" "$work/objects/lib" &&
	(cd "$work/objects/core" && compile -c "$root"/core/*.c) &&
	(cd "$work/objects/lib" && sources+=("$here/guest_monitors.c") &&
	 compile -DHAVE_MONITOR_KMOD -DHAVE_SELFTEST -c "${sources[@]}") &&
	# ar's q appends without comparing names: both folders have a section.o
	ar qcs "$work/libguest.a" "$work"/objects/*/*.o
}

# prints the further sources of a test program
parts_of()	# NAME
{
	case $1 in
	tool) echo "$here/tool_rig.c $root/tests/tool/rig.c -ljson-c" ;;
	torture*) echo "$here/torture.c $here/torture_storms.c" ;;
	esac
}

guest_programs()
{
	local source name

	mkdir -p "$work"/guest/{bench,bin,tests}
	guest_library || return
	for source in "$here"/test_*.c; do
		name=$(basename "$source" .c)
		name=${name#test_}
		# shellcheck disable=SC2046 # each word is a source
		compile -o "$work/guest/tests/$name" "$source" $(parts_of "$name") \
			"$work/libguest.a" -lcmocka || return
	done
	# the same tests, on the mirror whose lock sleeps
	for name in collide storm; do ln -s "$name" "$work/guest/tests/any_$name"; done
	[ "$measure" = 0 ] || for source in "$root"/bench/kernel/*.c; do
		compile -o "$work/guest/bench/$(basename "$source" .c)" "$source" \
			"$root/bench/bench.c" "$work/libguest.a" -lcmocka || return
	done
	! is_arm64 || return 0
	# without this program the test that runs it is skipped, and says so
	gcc -m32 -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -nostdlib -static \
		-I"$root/include/uapi" -idirafter "/usr/include/$(gcc -print-multiarch)" \
		-o "$work/guest/bin/caller_32bit" "$here/caller_32bit.c"
}

# builds targets as for users, with every monitor
built()	# TARGET...
{
	local options=() cross=$cache/arm64-libraries/cross.ini

	build=${INVLOCK_BUILD:-$root/build}
	if is_arm64; then
		build=${INVLOCK_BUILD:-$root/build-arm64}
		cross_file > "$cross"
		# an option for the first time alone
		[ -e "$build/build.ninja" ] || options=(-- --cross-file "$cross")
	fi
	alone apt "$root/scripts/deps.sh" build test &&
	alone build "$root/scripts/build.sh" "$build" "$@" "${options[@]}"
}

guest_tool()
{
	local build target=()

	[ "$measure$what" != 1module ] || target=(bench/watch_kernel)
	built tool/invlock "${target[@]}" && cp "$build/tool/invlock" "$work/guest/bin/" || return
	[ ${#target[@]} -eq 0 ] || cp "$build/bench/watch_kernel" "$work/guest/bench/watch"
}

# the tests of the BPF monitor, of the races against it, and of the command with it
guest_suites()
{
	local build program name
	local programs=(tests/race/test_race{,_storm}{,_no_check}
			tests/race/test_race_no_calls{,_no_net}
			tests/race/test_race_storm_no_guard)

	for program in "$root"/tests/bpf/test_*.c; do
		name=$(basename "$program" .c)
		programs+=("tests/bpf/test_bpf_${name#test_}")
	done
	# what the kernel's io_uring can do is found out when the program runs
	for program in "$root"/tests/uring/test_*.c; do
		name=$(basename "$program" .c)
		[ "$name" = test_storm ] || programs+=("tests/uring/test_uring_${name#test_}")
	done
	mkdir -p "$work"/guest/{bin,suites} && built tests/bpf/hold_bpf "${programs[@]}" &&
	cp "$build/tests/bpf/hold_bpf" "$(tool_of_guest chrt)" "$work/guest/bin/" || return
	for program in "${programs[@]}"; do
		name=${program##*/}
		cp "$build/$program" "$work/guest/suites/${name#test_}" || return
	done
	compile -o "$work/guest/suites/tool" "$here/suite_tool.c" "$here/tool_rig.c" \
		"$root/tests/tool/rig.c" -ljson-c -lcmocka
}

# prints where a program of this name is that runs in the guest
tool_of_guest()	# NAME
{
	if is_arm64; then
		echo "$sysroot/usr/bin/$1"
	else
		command -v "$1"
	fi
}

# prints the libraries that the programs in its input need, each as the guest has it
libraries()
{
	if is_arm64; then
		arm64_libraries
	else
		xargs -0 ldd 2> /dev/null | sed -n 's/^\t\(.* => \)\?\(\/[^ ]*\) (.*/\2/p' | sort -u
	fi
}

guest_lockdown()
{
	mkdir -p "$work"/guest/{bin,suites} &&
	compile -o "$work/guest/suites/lockdown" "$here/suite_lockdown.c" "$root/lib/lockdown.c" \
		"$root/tests/tool/rig.c" -ljson-c -lcmocka
}

guest_stock_modules()
{
	local file base

	: > "$work/guest/modules/order"
	# a kernel that was built here has all of these modules built in
	[ -n "$kernel_modules" ] || return
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
	cp "$(tool_of_guest busybox)" "$guest/bin/busybox"
	cp "$here/init" "$guest/"
	guest_stock_modules
	# a guest that mounts a root has libraries there
	[ -n "$userland" ] ||
	find "$guest" -type f \( -perm -u+x -o -name '*.so*' \) -print0 | libraries |
	while read -r library; do
		mkdir -p "$guest$(dirname "$library")" &&
		cp -L "${sysroot-}$library" "$guest$library"
	done
	# the loader of an arm64 program has this name
	! is_arm64 || ln -s usr/lib/aarch64-linux-gnu "$guest/lib"
	(cd "$guest" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 > "$work/initrd"
}
