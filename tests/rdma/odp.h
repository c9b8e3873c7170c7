/* SPDX-License-Identifier: MIT */
/* For the tests of on-demand registrations: memory that changes, and counters of the fault loop. */
#ifndef INVLOCK_TESTS_RDMA_ODP_H
#define INVLOCK_TESTS_RDMA_ODP_H

#include <stdbool.h>
#include <sys/types.h>

#include "loop.h"

#define ODP_LEN		16384

/*
 * A counter of tests/vm/odp/walk.c: faults, walks (rounds of faults), collide (so many of the next
 * walks wait until an invalidation hits them), held (walks that have begun to wait), missed (those
 * that waited in vain).
 */
long walk_get(const char *counter);
void walk_set(const char *counter, long value);

enum odp_change {
	ODP_DISCARD,		/* MADV_DONTNEED */
	ODP_COPY,		/* copy on write, after a fork */
	/* the changes above need no mmap lock for writing: they can hit a walk */
	ODP_UNLOCKED,
	ODP_UNMAP = ODP_UNLOCKED,	/* and map at the same address */
	ODP_MAP_OVER,
	ODP_MOVE_ONTO,		/* mremap of other memory to this address */
	ODP_CHANGES
};

struct odp_memory {
	char *at;
	int file;	/* -1: the memory is anonymous */
	pid_t child;	/* a process that shares the pages until they are copied, or 0 */
};

/* @shared: a file's; else it is anonymous. Ends the program on an error */
void odp_memory_open(struct odp_memory *m, bool shared);
void odp_memory_close(struct odp_memory *m);
/* makes pages of the memory such that the change will replace them */
void odp_memory_fill(struct odp_memory *m, enum odp_change change);
/* Replaces the pages. A shared memory knows one way: a hole is punched into its file. */
void odp_tear(struct odp_memory *m, enum odp_change change);

/*
 * Return: a process that punches a hole into the file for each walk that is held, but for the first
 * @held of them
 */
pid_t odp_punch_held(const struct odp_memory *m, long held);

/* Makes the kernel fault the memory in, in this task. Return: 0 or a negative errno */
int odp_prefetch(struct loop *loop, const struct ibv_mr *mr);

/* ends a process and waits for it */
void odp_kill(pid_t child);

#endif /* INVLOCK_TESTS_RDMA_ODP_H */
