/* SPDX-License-Identifier: MIT */
/*
 * The io_uring adapter, inside.
 *
 *	adapter.c	open, close, stats
 *	align.c		which memory may be fixed
 *	prep.c		a request: which way it goes, and its end
 *	vector.c	requests on several pieces of memory
 *	ring.c		the system calls on the ring's table
 *	slots.c		the fixed-buffer table: how the cache registers memory
 *	share.c		one cache and its table for several rings
 *	refused.c	memory that was refused, remembered so as not to ask each time
 *
 * Lock order: share.lock, which is held while slots of rings are cleared; slots.lock, which is the
 * innermost, and never held across a system call.
 */
#ifndef INVLOCK_URING_ADAPTER_H
#define INVLOCK_URING_ADAPTER_H

#include <invlock/uring.h>
#include <pthread.h>

#include "refused.h"

#define URING_MAX_SLOTS		(1u << 14)	/* the kernel's own limit */
#define URING_MAX_BUFFER	(1ULL << 30)	/* the same */

/*
 * The fixed-buffer table in which the cache registers, and which of its slots are free.
 *
 * A handle of the cache is the number of a registration, of which no two are the same, above the
 * slot. So a ring that has copied what was in a slot can tell whether it is still the same.
 */
struct slots {
	struct io_uring *ring;	/* constant: whose table it is */
	struct share *share;	/* constant: the rings that copy from this table; or NULL */
	unsigned int nr;	/* constant */
	uint64_t *handles;	/* of each slot, or 0; the thread that took the slot writes it */
	pthread_mutex_t lock;	/* guards the rest */
	uint64_t nr_registered;
	unsigned int nr_free;
	unsigned int nr_uncleared;
	uint16_t *free;		/* a stack: what was used last is used next */
	bool *uncleared;	/* free, but the kernel would not let go of its memory */
};

#define SLOT_BITS	16

static inline unsigned int slot_of(uint64_t handle)
{
	return handle & ((1u << SLOT_BITS) - 1);
}

struct invlock_uring {
	/* constant after open; first what a hit reads */
	struct invlock_cache *cache;
	struct share *share;	/* NULL: the cache registers in the ring's own table */
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
	bool vectors;		/* the kernel serves vectors in registered memory */
	struct slots *slots;	/* of this adapter, or of its share */
	struct invlock_uring_options options;	/* for rings that join */

	/* of a ring that shares */
	struct invlock_uring *next;	/* guarded by share.lock */
	uint64_t *copies;	/* the handle of what each slot of this ring's table is a copy of */
	bool untidy;		/* this ring's thread has copies of dead memory to clear */

	/* the thread that prepares, alone */
	struct refused refused;
	bool full;		/* all was in use when this many requests were done: */
	uint64_t full_at;
	unsigned int full_met;	/* requests that met this since; for rings that share */
	unsigned int memlock_skip;	/* registrations not to try, after RLIMIT_MEMLOCK */
	unsigned int memlock_next;	/* how many to skip the next time */

	/* fixed requests that are over; any thread */
	uint64_t done __attribute__((aligned(64)));
};

/* what older headers lack */
#define RING_NO_DESCRIPTOR	(1u << 15)	/* IORING_SETUP_REGISTERED_FD_ONLY */
#define RING_READV_FIXED	60		/* IORING_OP_READV_FIXED */
#define RING_WRITEV_FIXED	61		/* IORING_OP_WRITEV_FIXED */

/* has the ring a descriptor, which means it on every thread? */
bool ring_has_descriptor(const struct io_uring *ring);

/* 0 or -errno */
int ring_make_table(struct io_uring *ring, unsigned int nr_slots);
int ring_drop_table(struct io_uring *ring);

/* change nr slots; the number of those that were changed, or -errno */
int ring_update(struct io_uring *ring, unsigned int slot, const struct iovec *iov,
		unsigned int nr);

/* copy one slot of a table into the same slot of another ring's; 0 or -errno */
int ring_copy(struct io_uring *ring, const struct io_uring *from, unsigned int slot);

/* does the kernel know this operation? */
bool ring_knows(struct io_uring *ring, unsigned int opcode);

/* a ring of the library's own, for its table alone: of @ring only the descriptor is set */
int ring_open(struct io_uring *ring);
void ring_close(struct io_uring *ring);

/* on the kernel of this release, is a fixed request served wherever a plain one is? */
bool fixed_asks_no_more(const char *release);

/* invlock_uring_options.align, when the program names none */
unsigned int default_align(void);

/* NULL when memory is short */
struct slots *slots_new(struct io_uring *ring, unsigned int nr);
void slots_free(struct slots *slots);

/* put this memory, or nothing, into a slot of this ring's table; 0 or -errno */
int slot_fill(struct io_uring *ring, unsigned int slot, void *addr, size_t len);

/* the cache's callbacks; ctx is struct slots */
int slot_register(void *ctx, void *addr, size_t len, uint64_t *ret_handle);
void slot_clear(void *ctx, void *addr, size_t len, uint64_t handle);

/* May this thread register on the ring? Only the kernel knows, so this asks it. */
bool ring_is_ours(const struct invlock_uring *uring);

/* what is in a slot now: a handle, or 0; pairs with the store in slots.c */
static inline uint64_t slot_handle(const struct slots *slots, unsigned int slot)
{
	return __atomic_load_n(&slots->handles[slot], __ATOMIC_ACQUIRE);
}

/*
 * The way of a request on [addr, addr + len), with a pin if it is INVLOCK_URING_FIXED; or -errno.
 * If not dense, the request uses so little of it that it is not registered for this request's sake.
 */
int choose_span(struct invlock_uring *uring, const void *addr, size_t len, bool dense,
		struct invlock_pin *pin);

/* Return: the way of a request that is not fixed; -EOWNERDEAD in a forked child */
int choose_plain(const struct invlock_uring *uring, int way);

/* The way of a request is decided: fill @op, and count. Return: the way */
int op_begins(struct invlock_uring *uring, int way, struct invlock_uring_op *op);

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

/* fixed requests that are not over; any thread, inexact unless it is the one that prepares */
static inline uint64_t uring_in_flight(const struct invlock_uring *uring)
{
	/* done first: a request that is done is also counted as prepared */
	uint64_t done = uring_nr_done(uring);

	return uring_nr_prepared(uring, INVLOCK_URING_FIXED) - done;
}

#endif /* INVLOCK_URING_ADAPTER_H */
