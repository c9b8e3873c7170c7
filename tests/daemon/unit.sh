#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# unit.sh SERVICE SOCKET DAEMON - what systemd says of the daemon's units; prints TAP
set -uo pipefail
service=$1
socket=$2
daemon=$(realpath "$3")
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
	rm -f "$units"/invlockd.*
	cp "$socket" "$units/invlockd.socket"
	sed -e "s|^ExecStart=.*|ExecStart=$daemon|" "$@" "$service" > "$units/invlockd.service"
}

verifies()
{
	SYSTEMD_UNIT_PATH=$units: systemd-analyze verify --man=no "$units"/invlockd.* \
		> "$said" 2>&1 && ! grep invlockd "$said"
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

echo "1..4"
put
try "systemd finds nothing wrong in the units" verifies
try "the service may do hardly anything that it does not need" is_hardened
put -e 's/^UMask/UMusk/'
try "a setting that does not exist is found" wrong verifies
put -e '/^ProtectSystem/d' -e '/^SystemCallFilter/d'
try "a service that may do more is found" wrong is_hardened
exit $failed
