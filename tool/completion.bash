# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Completion for bash, of what the command itself says in --help.

_invlock()
{
	local tool=$1 word=$2 before=$3 words

	case $before in
	-m | --monitor)
		words="kmod bpf daemon uffd"
		[ "${COMP_WORDS[1]}" = prove ] || words="$words manual" ;;
	--device)
		words="uring soft" ;;
	--file)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return ;;
	*)
		if [ "$COMP_CWORD" = 1 ]; then
			words="$("$tool" --help | sed -n 's/^  \([a-z]\+\)  .*/\1/p') --help --version"
		else
			words=$("$tool" "${COMP_WORDS[1]}" --help 2> /dev/null |
				grep -o -- '--[a-z-]\+' | sort -u)
		fi ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _invlock invlock
