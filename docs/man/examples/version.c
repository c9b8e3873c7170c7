/* SPDX-License-Identifier: MIT */
/* Says with which version this program was compiled, and with which it runs. */
#include <invlock/version.h>
#include <stdio.h>

#if INVLOCK_VERSION_NUMBER < INVLOCK_MAKE_VERSION(0, 1, 0)
#error "this program needs the headers of invlock 0.1 or newer"
#endif

int main(void)
{
	printf("compiled with invlock %s, runs with %s\n", INVLOCK_VERSION, invlock_version());
	if (invlock_version_number() < INVLOCK_VERSION_NUMBER) {
		fprintf(stderr, "the library is older than what this program was compiled with\n");
		return 1;
	}
	return 0;
}
