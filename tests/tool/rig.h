/* SPDX-License-Identifier: MIT */
/* Runs the command and returns its output. */
#ifndef INVLOCK_TESTS_TOOL_RIG_H
#define INVLOCK_TESTS_TOOL_RIG_H

#define MAX_OUTPUT	(1 << 18)

struct ran {
	int code;		/* exit code; -1 = a signal ended it */
	char out[MAX_OUTPUT];
	char err[MAX_OUTPUT];
};

enum surroundings {
	AS_WE_ARE,
	AS_NOBODY,		/* without root's rights */
	IN_USER_NAMESPACE,	/* with all capabilities of a namespace of its own: unshare -Ur */
	WITHOUT_PROC,
};

#define NO_SURROUNDINGS	125	/* exit code: this machine does not allow them */

/* Runs a program; argv ends with NULL. Return: 0, or -1 and errno */
int run(const char *program, char *const *argv, enum surroundings where, struct ran *ret);

/* The same with these arguments, of which the first is the name; fails the test on an error. */
#define RUN_PROGRAM(program, where, ret, ...)				\
do {									\
	char *const argv[] = { __VA_ARGS__, NULL };			\
									\
	assert_int_equal(run(program, argv, where, ret), 0);		\
} while (0)

#endif /* INVLOCK_TESTS_TOOL_RIG_H */
