#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# ldconfig.sh LIBDIR - tell the dynamic linker of what was installed into LIBDIR, or removed from it
#
# Where that cannot be done, it says what to do instead. It never fails: the files are in place.
set -u

libdir=$1
PATH=$PATH:/usr/sbin:/sbin

is_searched()
{
	# no cache and no links are made; each directory has a line that ends with a colon
	for dir in $(ldconfig -vNX 2>/dev/null | sed -n 's/^\(\/[^:]*\):.*/\1/p'); do
		# one can be a link to the other
		if [ "$dir" -ef "$libdir" ]; then
			return 0
		fi
	done
	return 1
}

if ! ldconfig -V >/dev/null 2>&1; then
	echo "There is no ldconfig here: see how this system's dynamic linker learns of $libdir."
elif ! is_searched; then
	echo "The dynamic linker does not search $libdir: programs start with" \
	     "LD_LIBRARY_PATH=$libdir, or are linked with -Wl,-rpath,$libdir," \
	     "or root puts the line $libdir into /etc/ld.so.conf.d/invlock.conf and runs ldconfig."
elif [ "$(id -u)" != 0 ]; then
	echo "Only root may run ldconfig: programs start after \`sudo ldconfig\`."
elif ! ldconfig; then
	echo "ldconfig failed: programs start after \`ldconfig\` has been run."
fi
exit 0
