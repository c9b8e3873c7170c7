/* SPDX-License-Identifier: MIT */
/*
 * A share: one cache for several rings.
 *
 * The cache registers in the table of a ring of the library's own, which no request uses. A ring
 * that shares copies what it needs from there into the same slot of its own table: the kernel then
 * pins and charges nothing anew. It does so when a request needs the slot, while the request holds
 * its pin; uring.copies says what the ring has.
 *
 * Why no request meets a stale copy: the cache has validated the registration, the pin keeps it in
 * the slot of the library's ring, and the copy is used only if it has the same handle. No other
 * registration is ever given that handle.
 *
 * Why nobody clears a slot that is in use: a slot is cleared when no pin is left, and a ring copies
 * into it only while it holds one. A ring that belongs to one thread clears dead copies itself, as
 * the kernel lets no other thread do it; uring.untidy tells it so.
 */
#ifndef INVLOCK_URING_SHARE_H
#define INVLOCK_URING_SHARE_H

#include "adapter.h"

struct share {
	struct io_uring ring;	/* constant: the library's own; only its descriptor is set */
	dev_t dev;		/* constant: which file that is */
	ino_t ino;
	struct slots *slots;	/* constant */
	pthread_mutex_t lock;	/* guards the rest */
	struct invlock_uring *rings;
	unsigned int nr_rings;
};

/*
 * Make a share with one ring, whose table is empty. NULL: the kernel does not copy slots, or
 * memory or descriptors are short.
 */
struct share *share_new(struct invlock_uring *uring);

/* Add a ring whose table is empty. False: the kernel does not copy into it, or memory is short. */
bool share_add(struct share *share, struct invlock_uring *uring);

/* Take a ring out, unless it is the only one. Return: was it taken out? */
bool share_remove(struct share *share, struct invlock_uring *uring);

/* Free a share and leave its last ring alone; the cache is closed. */
void share_free(struct share *share);

/*
 * Is the share's ring still there? The program may have closed its descriptor, and then the number
 * may stand for a file of the program's. Makes a system call.
 */
bool share_has_ring(const struct share *share);

/* how many rings share */
unsigned int share_nr_rings(struct share *share);

/* Copy a registration, for which the caller holds a pin, into the ring's table. 0 or -errno */
int share_copy(struct invlock_uring *uring, uint64_t handle);

/* A registration is over: clear the copies of it. */
void share_clear(struct share *share, uint64_t handle);

/* Clear this ring's copies of what is dead; on the thread that prepares. */
void share_tidy(struct invlock_uring *uring);

/* how many of this ring's slots have a copy of what is dead; any thread */
unsigned int share_nr_dead(const struct invlock_uring *uring);

#endif /* INVLOCK_URING_SHARE_H */
