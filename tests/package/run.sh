#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh [-s SUITE] - build the Debian packages, install, use and remove them, and print TAP
#
# Packages are built in one root and used in another, which has nothing but what they depend on.
# roots.sh says what a root is, and which suites there are.
# shellcheck source=tests/package/roots.sh
. "$(dirname "$0")/roots.sh"

build_packages=build-essential,debhelper,dh-dkms,dkms,dh-python,fakeroot,lintian,meson,ninja-build
build_packages+=,pkgconf,clang,bpftool,libbpf-dev,liburing-dev,libjson-c-dev,python3
build_packages+=,systemtap-sdt-dev
build_packages+=,libibverbs-dev,libfabric-dev,libucx-dev

packages_build()
{
	copy_source build /src/invlock &&
	in_source build env DPKG_GENSYMBOLS_CHECK_LEVEL=4 dpkg-buildpackage -us -uc -j2
}

# Another folder, another user's umask and language, another number of jobs.
second_build_is_the_same()
{
	local deb nr=0

	copy_source build /var/tmp/another/longer/folder &&
	inside build sh -c 'cd /var/tmp/another/longer/folder && umask 027 &&
		LC_ALL=C TZ=Pacific/Auckland dpkg-buildpackage -b -us -uc -j1' || return
	for deb in "$work"/build/merged/src/*.deb; do
		cmp "$deb" "$work/build/merged/var/tmp/another/longer/$(basename "$deb")" || return
		nr=$((nr + 1))
	done
	[ $nr -ge 7 ] && ! grep -rl /src/invlock/ "$work"/build/merged/src/invlock/debian/*/usr
}

lintian_is_content()
{
	inside build sh -c 'useradd -m lintian; chmod -R a+rX /src
		su lintian -c "lintian --fail-on error,warning --display-info \
			--suppress-tags initial-upload-closes-no-bugs,unknown-architecture \
			/src/*.changes"'
}

build_is_hardened()
{
	local file=$work/build/merged/src/invlock/debian

	# position independent, bound at the start, no writable code
	readelf -hW "$file/invlock-tools/usr/bin/invlock" | grep 'DYN' &&
	for one in "$file/invlock-tools/usr/bin/invlock" "$file/invlockd/usr/sbin/invlockd" \
		"$file"/libinvlock0/usr/lib/*/libinvlock.so.0.*; do
		readelf -dW "$one" | grep -E 'BIND_NOW|NOW' &&
		readelf -lW "$one" | grep 'GNU_STACK.*RW ' &&
		readelf -lW "$one" | grep GNU_RELRO || return
	done
}

install()	# ROOT PACKAGE...: with what it depends on
{
	local files=() name

	for name in "${@:2}"; do
		files+=("/debs/$(basename "$work/$1/merged/debs/$name"_*.deb)")
	done
	add "$1" "${files[@]}"
}

add()	# ROOT PACKAGE...: of the suite, or a file
{
	inside "$1" apt-get -qq -y install --no-install-recommends "${@:2}"
}

# what makes a command an ordinary user's
nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp TMPDIR=/var/tmp)

as_user()	# COMMAND...
{
	inside clean "${nobody[@]}" "$@"
}

tools_prove_as_an_ordinary_user()
{
	local code

	install clean libinvlock0 libinvlock-uring0 invlock-tools &&
	as_user invlock --version || return
	as_user invlock prove --seconds 2 --device soft
	code=$?
	inside clean sh -c 'invlock doctor -m manual; [ $? = 1 ]' || return 1
	[ $code != 3 ] || { echo "this kernel has no monitor for an ordinary user"; return 77; }
	return $code
}

# There is no systemd here that could start them. What is enabled is a link.
clients_are_served_and_metrics_are_not()
{
	local units=$work/clean/merged/etc/systemd/system/sockets.target.wants

	install clean invlockd && ls "$units" && [ -L "$units/invlockd.socket" ] &&
	inside clean test -e /usr/lib/systemd/system/invlockd-metrics.socket &&
	[ ! -L "$units/invlockd-metrics.socket" ]
}

readme_example_runs()
{
	install clean libinvlock-{uring0,verbs0,ucx0,dev} &&
	add clean gcc libc6-dev pkg-config &&
	awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$root/README.md" \
		> "$work/clean/merged/tmp/example.c" &&
	inside clean sh -c 'cd /tmp && cc example.c $(pkg-config --cflags --libs invlock) &&
		./a.out' | grep 'registered 4096 bytes\|registered 8192 bytes' &&
	inside clean sh -c 'cd /tmp && cc -o uring \
		/usr/share/doc/libinvlock-dev/examples/uring.c \
		$(pkg-config --cflags --libs invlock-uring)'
}

# In the clean root. Return: 77 = this machine lets no BPF program be loaded
start_daemon()
{
	local said=$work/clean/merged/tmp/said

	inside clean sh -c 'invlockd 2> /tmp/said & echo $! > /tmp/daemon' || return
	daemon=$(cat "$work/clean/merged/tmp/daemon")
	while ! grep -q ready "$said"; do
		sleep 0.1
		kill -0 "$daemon" && continue
		cat "$said"
		! grep -q 'not permitted\|no BTF' "$said" || return 77
		return 1
	done
}

stop_daemon()
{
	kill "$daemon" || return
	while kill -0 "$daemon" 2> /dev/null; do
		sleep 0.1
	done
	inside clean rmdir /run/invlock
}

# What works for an ordinary user where the packages are installed and a daemon runs: the exact
# monitor is chosen, doctor asks for nothing, and the proof and the README's example succeed.
promise_holds()	# COMMAND...: what makes the following command an ordinary user's
{
	local code

	cat > "$work/clean/merged/tmp/promise" <<- 'END'
		set -e
		cd "$(mktemp -d)"
		invlock doctor > doctor || { cat doctor; exit 1; }
		grep 'caches choose daemon' doctor
		invlock prove --seconds 3 --device soft > proof || { cat proof; exit 1; }
		grep 'monitor daemon' proof
		grep '^Proved' proof
		grep '^stale: invlock 0, ' proof
		/tmp/a.out > example
		grep '^registered 4096 bytes\|^registered 8192 bytes' example
		[ "$(wc -l < example)" = 1 ]
	END
	start_daemon || return
	"$@" sh /tmp/promise
	code=$?
	stop_daemon && return $code
}

# A process in a chroot may make no user namespace, so the order is this.
in_user_namespace()	# COMMAND...
{
	chmod 755 "$work" &&
	"${nobody[@]}" unshare --user --map-root-user chroot "$work/clean/merged" "$@"
}

# Another root, and namespaces of its own: it shares the folder of the daemon's socket alone.
in_container()	# COMMAND...
{
	# shellcheck disable=SC2016
	unshare --pid --fork --mount --net --ipc --uts sh -ec '
		mount --bind "$1/clean/merged/run/invlock" "$1/pod/merged/run/invlock"
		mount -t proc proc "$1/pod/merged/proc"
		cd "$1/pod/merged"
		shift
		exec chroot . "$@"' sh "$work" "${nobody[@]}" "$@"
}

make_container()
{
	enter_root pod clean && mkdir -p "$work"/pod/merged/{debs,run/invlock} &&
	cp "$work"/clean/merged/debs/*.deb "$work/pod/merged/debs/" &&
	cp "$work"/clean/merged/tmp/{promise,a.out} "$work/pod/merged/tmp/" &&
	inside pod apt-get -qq update && install pod libinvlock0 libinvlock-uring0 invlock-tools
}

python_uses_the_library()
{
	install clean python3-invlock &&
	as_user python3 -c 'if True:
		import invlock
		with invlock.MM("manual") as mm, invlock.Cache(mm, lambda a, n: 7, print) as cache:
			with cache.get(bytearray(4096)) as pin:
				assert pin.handle == 7'
}

# An upgrade, while a program uses the daemon that it replaces. dpkg sees a higher version.
upgrade_leaves_a_running_client_exact()
{
	# shellcheck disable=SC2016
	inside clean sh -ec '
		cd /tmp
		dpkg-deb -R /debs/invlockd_*.deb new
		sed -i "s/^Version:.*/&+newer/" new/DEBIAN/control
		dpkg-deb -b new newer.deb
		await() {
			while ! grep -q ready $1; do
				sleep 0.1
				kill -0 $2 && continue
				cat $1
				grep -q "not permitted\|no BTF" $1 && exit 77
				exit 1
			done
		}
		invlockd 2> said & daemon=$!
		await said $daemon
		setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp TMPDIR=/var/tmp \
			INVLOCK_MONITOR=daemon invlock prove --seconds 20 --device soft & client=$!
		sleep 5
		dpkg -i newer.deb
		kill $daemon && wait $daemon
		invlockd 2> said.new & daemon=$!
		await said.new $daemon
		setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp TMPDIR=/var/tmp \
			INVLOCK_MONITOR=daemon invlock prove --seconds 2 --device soft
		wait $client
		kill $daemon && wait $daemon && rmdir /run/invlock
		dpkg-query -W invlockd | grep newer'
}

# The names of what a spec needs are those of Fedora, which rpmbuild cannot look up here.
rpms_build()
{
	local version

	version=$(sed -n 's/^Version: *//p' "$root/rpm/invlock.spec") &&
	copy_source build "/var/tmp/rpm/invlock-$version" &&
	inside build sh -ec "cd /var/tmp/rpm
		mkdir -p /root/rpmbuild/SOURCES
		tar -czf /root/rpmbuild/SOURCES/invlock-$version.tar.gz invlock-$version
		rpmbuild -bb --nodeps invlock-$version/rpm/invlock.spec
		cd /root/rpmbuild/RPMS/*/
		for part in '' -uring -devel -tools; do
			rpm -qpl invlock\$part-$version-1.*.rpm | grep -q invlock
		done
		rpm -qpl invlockd-$version-1.*.rpm | grep sbin/invlockd"
}

# The real-time kernel has other locks.
dkms_builds_the_module()
{
	local flavour kernel built=$work/clean/merged/var/lib/dkms/invlock

	add clean linux-headers-{cloud,rt}-amd64 &&
	install clean invlock-dkms || return
	for flavour in cloud rt; do
		kernel=$(basename "$work"/clean/merged/usr/src/linux-headers-*-$flavour-amd64) &&
		kernel=${kernel#linux-headers-} &&
		inside clean dkms status -m invlock -k "$kernel" | grep installed &&
		# DKMS of sid does this only where the kernel itself is installed
		inside clean depmod "$kernel" &&
		inside clean modinfo -k "$kernel" invlock | grep "vermagic: *$kernel " || return
		! grep -i warning: "$built"/*/"$kernel"/*/log/*.log || return
	done
}

files_of_ours()
{
	inside clean find / -xdev '(' -path /proc -o -path /sys -o -path /dev -o -path /debs -o \
		-path /tmp -o -path /var/log -o -path /var/cache ')' -prune -o \
		-name '*invlock*' -print
}

# configuration files and what DKMS built are gone with the packages
nothing_is_left()
{
	local before after

	before=$(files_of_ours) && [ -n "$before" ] &&
	inside clean apt-get -qq -y purge 'libinvlock*' 'invlock-*' invlockd python3-invlock &&
	after=$(files_of_ours) && echo "left: $after" && [ -z "$after" ]
}

base_root build "$build_packages" > "$work/log" 2>&1 || bail_out "the root to build in is not made"
base_root clean ca-certificates > "$work/log" 2>&1 || bail_out "the clean root is not made"
enter_root build > "$work/log" 2>&1 || bail_out "the root to build in is not mounted"
enter_root clean > "$work/log" 2>&1 || bail_out "the clean root is not mounted"
packages_build > "$work/log" 2>&1 || bail_out "the packages do not build"
mkdir "$work/clean/merged/debs" && cp "$work"/build/merged/src/*.deb "$work/clean/merged/debs/"

echo "TAP version 13"
echo "1..14"
try "lintian finds nothing" lintian_is_content
try "what was built is hardened" build_is_hardened
try "a second build, in another folder, makes the same packages" second_build_is_the_same
inside build apt-get -qq update > "$work/log" 2>&1
if inside build apt-get -qq -y install --no-install-recommends rpm > "$work/log" 2>&1; then
	try "rpmbuild builds RPM packages of the spec" rpms_build
else
	nr=$((nr + 1))
	echo "ok $nr - rpmbuild builds RPM packages of the spec # SKIP $suite has no rpm to install"
fi
inside clean apt-get -qq update > "$work/log" 2>&1
try "the command proves it as an ordinary user" tools_prove_as_an_ordinary_user
try "the daemon's socket is enabled, and that of its metrics is not" \
	clients_are_served_and_metrics_are_not
try "the example of the README compiles and runs" readme_example_runs
try "with the daemon an ordinary user has the exact monitor, its proof, and doctor's consent" \
	promise_holds inside clean "${nobody[@]}"
try "so has one in a user namespace" promise_holds in_user_namespace
try "so has one in a container with the daemon's socket" eval \
	"make_container && promise_holds in_container"
try "an upgrade leaves a running client exact" upgrade_leaves_a_running_client_exact
try "Python uses the library" python_uses_the_library
try "DKMS builds the module for the kernels of the suite, without a warning" dkms_builds_the_module
try "nothing is left when all is removed" nothing_is_left
keep_debs clean
exit "$failed"
