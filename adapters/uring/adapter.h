/* SPDX-License-Identifier: MIT */
/*
 * The io_uring adapter, inside.
 *
 *	adapter.c	open, close, stats
 *	align.c		which memory may be fixed
 *	prep.c		a request: which way it goes, and its end
 *	ring.c		the system calls on the ring's table
 *	slots.c		the fixed-buffer table: how the cache registers memory
 *	refused.c	memory that was refused, remembered so as not to ask each time
 *
 * Lock order: slots.lock is the innermost, and never held across a system call.
 */
#ifndef INVLOCK_URING_ADAPTER_H
#define INVLOCK_URING_ADAPTER_H

#include <invlock/uring.h>
#include <pthread.h>

#include "refused.h"

#define URING_MAX_SLOTS		(1u << 14)	/* the kernel's own limit */
#define URING_MAX_BUFFER	(1ULL << 30)	/* the same */

/* which slots of the ring's table are free */
struct slots {
	unsigned int nr;	/* constant */
	pthread_mutex_t lock;	/* guards the rest */
	unsigned int nr_free;
	unsigned int nr_uncleared;
	uint16_t *free;		/* a stack: what was used last is used next */
	bool *uncleared;	/* free, but the kernel would not let go of its memory */
};

struct invlock_uring {
	/* constant after open; first what a hit reads */
	struct invlock_cache *cache;
	size_t min_len;
	uint64_t align_mask;	/* bits that are 0 in an address that may be fixed */

	uint64_t ways[16];	/* written by the thread that prepares; stats read it */

	struct io_uring *ring;
	struct invlock_mm *mm;	/* the cache holds the reference */
	struct invlock_read_budget budget;
	uint64_t page;
	uint64_t max_bytes;	/* 0 = no limit */
	bool max_is_memlock;
	bool one_thread;	/* IORING_SETUP_SINGLE_ISSUER */

	struct slots slots;

	/* the thread that prepares, alone */
	struct refused refused;
	bool full;		/* all was in use when this many requests were done: */
	uint64_t full_at;
	unsigned int memlock_skip;	/* registrations not to try, after RLIMIT_MEMLOCK */
	unsigned int memlock_next;	/* how many to skip the next time */

	/* fixed requests that are over; any thread */
	uint64_t done __attribute__((aligned(64)));
};

/* IORING_SETUP_REGISTERED_FD_ONLY, which older headers lack */
#define RING_NO_DESCRIPTOR	(1u << 15)

/* has the ring a descriptor, which means it on every thread? */
bool ring_has_descriptor(const struct io_uring *ring);

/* 0 or -errno */
int ring_make_table(struct io_uring *ring, unsigned int nr_slots);
int ring_drop_table(struct io_uring *ring);

/* change nr slots; the number of those that were changed, or -errno */
int ring_update(struct io_uring *ring, unsigned int slot, const struct iovec *iov,
		unsigned int nr);

/* on the kernel of this release, is a fixed request served wherever a plain one is? */
bool fixed_asks_no_more(const char *release);

/* invlock_uring_options.align, when the program names none */
unsigned int default_align(void);

int slots_init(struct slots *slots, unsigned int nr);
void slots_free(struct slots *slots);

/* the cache's callbacks; ctx is the adapter */
int slot_register(void *ctx, void *addr, size_t len, uint64_t *ret_handle);
void slot_clear(void *ctx, void *addr, size_t len, uint64_t handle);

/* May this thread register on the ring? Only the kernel knows, so this asks it. */
bool ring_is_ours(const struct invlock_uring *uring);

/* 0, or -EOWNERDEAD in a forked child */
static inline int uring_alive(const struct invlock_uring *uring)
{
	return invlock_mm_alive(uring->mm) ? 0 : -EOWNERDEAD;
}

/* acquire: what those requests held is free; pairs with the RMW in invlock_uring_done() */
static inline uint64_t uring_nr_done(const struct invlock_uring *uring)
{
	return __atomic_load_n(&uring->done, __ATOMIC_ACQUIRE);
}

/* requests that went this way so far */
static inline uint64_t uring_nr_prepared(const struct invlock_uring *uring, unsigned int way)
{
	return __atomic_load_n(&uring->ways[way], __ATOMIC_RELAXED);
}

#endif /* INVLOCK_URING_ADAPTER_H */
