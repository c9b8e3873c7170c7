/* SPDX-License-Identifier: MIT */
/* A child says by its exit status what it found: the asserts of cmocka do not work there. */
#ifndef INVLOCK_TESTS_CHILD_H
#define INVLOCK_TESTS_CHILD_H

#include <sys/wait.h>

#include "tests/test.h"

/* Runs f in a forked child. Return: its exit status. */
static inline int in_child(int (*f)(void))
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child)
		_exit(f());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#endif /* INVLOCK_TESTS_CHILD_H */
