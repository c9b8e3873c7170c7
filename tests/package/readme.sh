#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# readme.sh [-s SUITE] - follow documents word for word, and print TAP: README.md,
# docs/tutorial.md and docs/install-module.md
#
# Each document is followed in a root that has nothing but Debian's smallest system and sudo
# (roots.sh). follow.py says what a step of a document is. INVLOCK_DOCUMENTS names other documents,
# paths from the root of the tree.
# shellcheck source=tests/package/roots.sh
. "$(dirname "$0")/roots.sh"

read -ra documents <<< \
	"${INVLOCK_DOCUMENTS:-README.md docs/tutorial.md docs/install-module.md}"
home=/home/reader	# where the commands begin

# The documents call it REPOSITORY: a clone of the tree as it is, with what is not yet committed.
make_repository()	# NAME
{
	local repository=$work/$1/merged$home/REPOSITORY

	copy_source "$1" "$home/REPOSITORY" &&
	git -C "$repository" init -q &&
	git -C "$repository" add -A &&
	git -C "$repository" -c user.name=reader -c user.email=reader@localhost commit -q -m all
}

# The root does not boot, and has no kernel. DKMS takes the one whose headers are installed for the
# one that runs.
run_its_own_kernel()	# NAME
{
	local uname=$work/$1/merged/usr/local/bin/uname

	# folders that a system has because it boots
	mkdir -p "$work/$1/merged/etc"/{modules-load.d,udev/rules.d}
	cat > "$uname" <<- 'END'
		#!/bin/sh
		newest=$(basename /usr/src/linux-headers-*[0-9]-amd64)
		newest=${newest#linux-headers-}
		if [ "$*" = -r ] && [ -e "/usr/src/linux-headers-$newest" ]; then
			echo "$newest"
		else
			exec /usr/bin/uname "$@"
		fi
	END
	chmod +x "$uname"
}

# what the reader of each document has done before
begin()	# NAME DOCUMENT
{
	local here=$home

	enter_root "$1" clean && cp -a "$lists" "$work/$1/merged/var/lib/apt/" &&
	make_repository "$1" && inside "$1" apt-get -qq -y install sudo || return
	if [ "$2" != docs/tutorial.md ]; then
		inside "$1" apt-get -qq -y install --no-install-recommends git make &&
		inside "$1" git clone -q "$home/REPOSITORY" "$home/invlock" || return
		here=$home/invlock
	fi
	run_its_own_kernel "$1" && echo "$here" > "$work/$1/where"
}

# Runs the commands where the step before has ended. The lint tier stands for all of `make test`.
take_step()	# NAME STEP
{
	local as=() said=$work/$1/said code

	if [ "$(cat "$2/user")" = nobody ]; then
		as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	fi
	{
		echo "set -e; cd $(cat "$work/$1/where")"
		cat "$2/commands"
		echo 'pwd >&3'
	} > "$work/$1/merged/tmp/step.sh"
	chmod a+r "$work/$1/merged/tmp/step.sh"
	inside "$1" env TIERS=lint "${as[@]}" bash /tmp/step.sh > "$said" 2>&1 3> "$work/$1/now"
	code=$?
	cat "$said"
	[ ! -s "$work/$1/now" ] || cp "$work/$1/now" "$work/$1/where"
	if [ "$(cat "$2/fails")" = yes ]; then
		[ "$code" != 0 ] || { echo "the document says that this fails"; return 1; }
	elif [ "$code" != 0 ]; then
		echo "exit code $code"
		return 1
	fi
}

prints_what_the_document_says()	# NAME STEP
{
	"$root/tests/package/follow.py" match "$2/output" "$work/$1/said"
}

# the output in the documents is that of a machine where caches choose the bpf monitor
bpf_is_chosen()	# NAME
{
	inside "$1" "$home/invlock/build/tool/invlock" doctor --monitor bpf > "$work/log" 2>&1
}

check_output()	# NAME STEP TITLE
{
	if bpf_is_chosen "$1"; then
		try "$3" prints_what_the_document_says "$1" "$2"
	else
		nr=$((nr + 1))
		echo "ok $nr - $3 # SKIP the documents show a machine where bpf works"
	fi
}

nothing_is_left()	# NAME
{
	local left

	left=$(inside "$1" find / -xdev '(' -path /proc -o -path /sys -o -path /dev -o \
		-path /home -o -path /tmp -o -path /var/cache ')' -prune -o \
		-name '*invlock*' ! -type d -print) && echo "left: $left" && [ -z "$left" ]
}

follow()	# DOCUMENT
{
	local name step title
	name=$(basename "$1" .md)

	begin "$name" "$1" > "$work/log" 2>&1 || bail_out "the root for $1 is not ready"
	for step in "$work/steps-$name"/*; do
		title="$1: $(cat "$step/title")"
		try "$title" take_step "$name" "$step"
		if [ -e "$step/output" ]; then
			check_output "$name" "$step" "$title: prints what the document says"
		fi
	done
	try "$1: nothing is left when it is uninstalled" nothing_is_left "$name"
	keep_debs "$name"
	# the next document needs the memory
	umount -l "$work/$name/merged" && rm -rf "${work:?}/$name"
}

command -v git > /dev/null || skip_all "git is missing: scripts/deps.sh package"
base_root clean ca-certificates > "$work/log" 2>&1 || bail_out "the clean root is not made"
enter_root fetch clean > "$work/log" 2>&1 || bail_out "the clean root is not mounted"
inside fetch apt-get -qq update > "$work/log" 2>&1 || skip_all "the mirror does not answer"
# each root begins with the lists that were fetched here
lists=$work/fetch/merged/var/lib/apt/lists

plan=0
for document in "${documents[@]}"; do
	name=$(basename "$document" .md)
	mkdir "$work/steps-$name"
	"$root/tests/package/follow.py" steps "$root/$document" "$work/steps-$name" \
		> "$work/log" 2>&1 || bail_out "$document is not understood"
	plan=$((plan + 1 + $(find "$work/steps-$name" -name title -o -name output | wc -l)))
done
echo "TAP version 13"
echo "1..$plan"
for document in "${documents[@]}"; do
	follow "$document"
done
exit "$failed"
