/* SPDX-License-Identifier: MIT */
/* A forked child that waits for a word before it does its one thing. */
#ifndef INVLOCK_TOOL_CHANGES_PROCESS_H
#define INVLOCK_TOOL_CHANGES_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

struct other_process {
	pid_t pid;		/* 0: it is gone */
	int go;			/* written to: begin */
};

/*
 * Other threads may run: @act makes system calls and nothing else.
 * Return: 0, or -1 and errno.
 */
int other_start(struct other_process *o, int (*act)(void *arg), void *arg);

/* let it begin, wait until it is done: what @act returned, with errno; or -1 and errno */
int other_act(struct other_process *o);

/* if it still waits, it is not needed after all */
void other_end(struct other_process *o);

#endif /* INVLOCK_TOOL_CHANGES_PROCESS_H */
