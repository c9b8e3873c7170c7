/* SPDX-License-Identifier: MIT */
/* Run the command and keep what it writes. */
#ifndef INVLOCK_TESTS_TOOL_RIG_H
#define INVLOCK_TESTS_TOOL_RIG_H

#include <stdbool.h>

#define MAX_OUTPUT	(1 << 18)

struct ran {
	int code;		/* exit code; -1 = a signal ended it */
	char out[MAX_OUTPUT];
	char err[MAX_OUTPUT];
};

/* argv ends with NULL; @unprivileged: as nobody, with no capability. 0, or -1 and errno */
int run(const char *program, char *const *argv, bool unprivileged, struct ran *ret);

#endif /* INVLOCK_TESTS_TOOL_RIG_H */
