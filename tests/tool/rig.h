/* SPDX-License-Identifier: MIT */
/* Runs the command and returns its output. */
#ifndef INVLOCK_TESTS_TOOL_RIG_H
#define INVLOCK_TESTS_TOOL_RIG_H

#include <stdbool.h>

#define MAX_OUTPUT	(1 << 18)

struct ran {
	int code;		/* exit code; -1 = a signal ended it */
	char out[MAX_OUTPUT];
	char err[MAX_OUTPUT];
};

/*
 * Runs a program; argv ends with NULL. unprivileged: as user nobody, without capabilities. Return:
 * 0, or -1 and errno
 */
int run(const char *program, char *const *argv, bool unprivileged, struct ran *ret);

#endif /* INVLOCK_TESTS_TOOL_RIG_H */
