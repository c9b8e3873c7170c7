#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# unit.sh DAEMON SERVICE SOCKET... - what systemd says of the daemon's units; prints TAP
set -uo pipefail
daemon=$(realpath "$1")
service=$2
sockets=("${@:3}")
# tenths of systemd's points: what is left is explained in the unit, or is what the daemon is for
most=12

for need in systemd-analyze sed; do
	command -v $need > /dev/null || { echo "1..0 # SKIP $need is missing"; exit 0; }
done
systemd-analyze security --help 2>&1 | grep -q -- --offline ||
	{ echo "1..0 # SKIP this systemd-analyze judges no file"; exit 0; }
units=$(mktemp -d)
trap 'rm -rf "$units"' EXIT
said=$units/said
nr=0
failed=0

put()	# SED...: the units, changed by that; the daemon is not installed yet
{
	local unit to

	rm -f "$units"/*.{service,socket}
	for unit in "$service" "${sockets[@]}"; do
		to=$units/$(basename "$unit")
		sed -e "s|^ExecStart=.*|ExecStart=$daemon|" "$@" "$unit" > "$to"
	done
}

verifies()
{
	SYSTEMD_UNIT_PATH=$units: systemd-analyze verify --man=no "$units"/*.{service,socket} \
		> "$said" 2>&1 && ! grep invlockd "$said"
}

# What serves clients and metrics is the same service, and it is the one that is judged below.
sockets_start_the_service()
{
	local socket name

	for socket in "$units"/*.socket; do
		name=$(sed -n 's/^Service=//p' "$socket")
		echo "$(basename "$socket") starts ${name:=$(basename "$socket" .socket).service}"
		[ -e "$units/$name" ] || return
	done > "$said"
	[ -s "$said" ]
}

# Users may ask for feeds. What the metrics say of them is for root, unless somebody changes that.
metrics_are_for_root()
{
	grep -l '^FileDescriptorName=metrics$' "$units"/*.socket | xargs grep '^SocketMode=' \
		> "$said" 2>&1
	[ "$(cat "$said")" = SocketMode=0600 ]
}

is_hardened()
{
	systemd-analyze security --offline=yes --no-pager "$units/invlockd.service" > "$said" 2>&1
	points=$(sed -n 's/.*exposure level[^:]*: \([0-9]*\)\.\([0-9]\).*/\1\2/p' "$said")
	echo "# exposure: ${points:-unknown} tenths, the most is $most"
	[ -n "$points" ] && [ "$((10#$points))" -le "$most" ]
}

try()	# TITLE COMMAND...
{
	nr=$((nr + 1))
	if "${@:2}"; then
		echo "ok $nr - $1"
	else
		echo "not ok $nr - $1"
		sed 's/^/# /' "$said"
		failed=1
	fi
}

wrong()
{
	! "$@"
}

echo "1..9"
put
try "systemd finds nothing wrong in the units" verifies
try "the service may do hardly anything that it does not need" is_hardened
try "each socket starts the service" sockets_start_the_service
try "only root may connect to the metrics" metrics_are_for_root
put -e 's/^UMask/UMusk/'
try "a setting that does not exist is found" wrong verifies
put -e 's/^SocketMode=0600/SocketMade=0600/'
try "the same in a socket" wrong verifies
put -e 's/^SocketMode=0600/SocketMode=0666/'
try "metrics that everybody may read are found" wrong metrics_are_for_root
put -e 's/^Service=.*/Service=invlock.service/'
try "a socket that starts another service is found" wrong sockets_start_the_service
put -e '/^ProtectSystem/d' -e '/^SystemCallFilter/d'
try "a service that may do more is found" wrong is_hardened
exit $failed
