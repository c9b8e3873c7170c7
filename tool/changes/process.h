/* SPDX-License-Identifier: MIT */
/* A forked child that waits until it is told to act. */
#ifndef INVLOCK_TOOL_CHANGES_PROCESS_H
#define INVLOCK_TOOL_CHANGES_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

struct other_process {
	pid_t pid;		/* 0 = it has ended */
	int go;			/* a pipe; a byte in it tells the child to act */
};

/*
 * Fork a child that will call @act. Other threads may exist, so @act must only make system calls.
 * Return: 0, or -1 and errno.
 */
int other_start(struct other_process *o, int (*act)(void *arg), void *arg);

/* Tell the child to act, and wait until it has ended. Return: 0, or -1 and the errno of @act. */
int other_act(struct other_process *o);

/* End the child if it still waits. */
void other_end(struct other_process *o);

#endif /* INVLOCK_TOOL_CHANGES_PROCESS_H */
