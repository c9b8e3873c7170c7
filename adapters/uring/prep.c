// SPDX-License-Identifier: MIT
/*
 * One request: which way it goes, and its end.
 *
 * What has been tried in vain is not tried again for each request, since a failed
 * registration costs as much as a good one:
 *	memory refused		until the map changes there (refused.h), by the kernel or by
 *				the monitor
 *	all in use		until a fixed request of this ring is done; where rings share, at
 *				most for FULL_RETRY requests, since a ring does not learn what the
 *				others are done with
 *	RLIMIT_MEMLOCK		for 1, 2, 4, ... MEMLOCK_SKIP_MAX registrations
 */
#include <errno.h>
#include <string.h>

#include "share.h"

#define MOVED_MAX		0x7ffff000u	/* bytes that one request moves, as read(2) */
#define CMD_ALIGN		4u	/* memory that a device is given, and not a copy of it */
#define MEMLOCK_SKIP_MAX	1024u
#define FULL_RETRY		64u

static bool still_full(struct invlock_uring *uring)
{
	if (uring->full && (!uring_in_flight(uring) || uring_nr_done(uring) != uring->full_at ||
			    (uring->share && ++uring->full_met == FULL_RETRY)))
		uring->full = false;
	return uring->full;
}

static bool still_memlock(struct invlock_uring *uring)
{
	if (!uring->memlock_skip)
		return false;
	uring->memlock_skip--;
	return true;
}

/* Return: enum invlock_uring_way, or an error that is the caller's to know */
static int way_of(int err)
{
	switch (err) {
	case 0:
		return INVLOCK_URING_FIXED;
	case -EOWNERDEAD:
		return err;
	case -EFAULT:
	case -EINVAL:
	case -EOPNOTSUPP:	/* a mapped file, from older kernels */
		return INVLOCK_URING_REFUSED;
	case -ENOSPC:
		return INVLOCK_URING_FULL;
	case -ENOMEM:
		return INVLOCK_URING_MEMLOCK;
	case -EBUSY:
		return INVLOCK_URING_COLLIDED;
	case -EEXIST:
		return INVLOCK_URING_THREAD;
	case -EMEDIUMTYPE:
	case -ENOTRECOVERABLE:
		return INVLOCK_URING_UNWATCHED;
	default:
		return INVLOCK_URING_OTHER;
	}
}

/* Note what this attempt tells about the next ones. */
static void learn_from(struct invlock_uring *uring, int way, uint64_t done)
{
	if (way == INVLOCK_URING_FULL) {
		uring->full = true;
		uring->full_met = 0;
		uring->full_at = done;
	} else if (way == INVLOCK_URING_MEMLOCK) {
		uring->memlock_skip = uring->memlock_next;
		if (uring->memlock_next < MEMLOCK_SKIP_MAX)
			uring->memlock_next *= 2;
	} else if (way == INVLOCK_URING_FIXED) {
		uring->memlock_next = 1;
	}
}

/* [start, end): the request's pages */
static int register_range(struct invlock_uring *uring, uint64_t start, uint64_t end,
			  struct invlock_pin *pin)
{
	struct invlock_read *read = refused_place(&uring->refused);
	uint64_t done = uring_nr_done(uring);
	void *addr = (void *)(unsigned long)start;
	int way;

	/* This section only tells how long a refusal holds: an old one costs time, nothing else. */
	invlock_read_init(read, uring->mm, addr, end - start, &uring->budget,
			  INVLOCK_READ_UNWATCHED);
	if (!invlock_read_attempt(read)) {
		int err = invlock_read_error(read);

		invlock_read_end(read);
		return err == -EBUSY || err == -EOWNERDEAD ? way_of(err) : INVLOCK_URING_UNWATCHED;
	}
	way = way_of(invlock_cache_get(uring->cache, addr, end - start, 0, pin));
	learn_from(uring, way, done);
	/* Remember the refusal only if the map has not changed since the sample. */
	if ((way == INVLOCK_URING_REFUSED || way == INVLOCK_URING_UNWATCHED) &&
	    invlock_read_commit(read))
		refused_add(&uring->refused, start, end);
	else
		invlock_read_end(read);
	return way;
}

/*
 * [start, end): the pages of the len bytes. Return: why memory like this is never registered;
 * INVLOCK_URING_FIXED = it may be
 */
static int unfit(const struct invlock_uring *uring, size_t len, uint64_t start, uint64_t end)
{
	if (len > URING_MAX_BUFFER || end - start > URING_MAX_BUFFER)
		return INVLOCK_URING_LARGE;
	if (end <= start)
		return INVLOCK_URING_REFUSED;
	if (uring->max_bytes && end - start > uring->max_bytes)
		return uring->max_is_memlock ? INVLOCK_URING_MEMLOCK : INVLOCK_URING_LARGE;
	return INVLOCK_URING_FIXED;
}

/*
 * @err: what the cache answered when it was asked for a hit
 * @dense: the request uses at least half of the range, so the whole may be registered for it
 */
__attribute__((noinline))
static int choose_slow(struct invlock_uring *uring, uint64_t first, size_t len, int err, bool dense,
		       struct invlock_pin *pin)
{
	uint64_t start = first & -uring->page, end = (first + len + uring->page - 1) & -uring->page;
	int way;

	if (err == -EOWNERDEAD)
		return err;
	way = unfit(uring, len, start, end);
	if (way)
		return way;
	if (err != -ENOENT)
		return way_of(err);
	if (!dense)
		return INVLOCK_URING_SCATTERED;
	if (refused_find(&uring->refused, start, end))
		return INVLOCK_URING_KNOWN;
	if (still_full(uring))
		return INVLOCK_URING_FULL;
	if (still_memlock(uring))
		return INVLOCK_URING_MEMLOCK;
	if (!ring_is_ours(uring))
		return INVLOCK_URING_THREAD;
	return register_range(uring, start, end, pin);
}

int choose_plain(const struct invlock_uring *uring, int way)
{
	int err = uring_alive(uring);

	return err ? err : way;
}

/* Look for a hit before all other checks: memory that is never registered is never found. */
INVLOCK_ONLY_ADDRESS(2)
static inline int choose_pin(struct invlock_uring *uring, const void *addr, size_t len, bool dense,
			     struct invlock_pin *pin)
{
	int err = invlock_cache_get(uring->cache, addr, len, INVLOCK_GET_CACHED, pin);

	return __builtin_expect(!err, 1) ? INVLOCK_URING_FIXED :
	       choose_slow(uring, (unsigned long)addr, len, err, dense, pin);
}

__attribute__((noinline)) INVLOCK_ONLY_ADDRESS(2)
static int choose_shared(struct invlock_uring *uring, const void *addr, size_t len, bool dense,
			 struct invlock_pin *pin)
{
	int way, err;

	/* first, so that what is dead is not charged any more when memory is registered */
	share_tidy(uring);
	way = choose_pin(uring, addr, len, dense, pin);
	if (way != INVLOCK_URING_FIXED)
		return way;
	err = share_copy(uring, pin->handle);
	if (!err)
		return INVLOCK_URING_FIXED;
	invlock_cache_put(pin);
	return err == -EEXIST ? INVLOCK_URING_THREAD :
	       err == -ENOMEM ? INVLOCK_URING_MEMLOCK : INVLOCK_URING_OTHER;
}

INVLOCK_ONLY_ADDRESS(2)
static inline int choose_range(struct invlock_uring *uring, const void *addr, size_t len,
			       bool dense, struct invlock_pin *pin)
{
	return __builtin_expect(uring->share != NULL, 0) ?
	       choose_shared(uring, addr, len, dense, pin) :
	       choose_pin(uring, addr, len, dense, pin);
}

int choose_span(struct invlock_uring *uring, const void *addr, size_t len, bool dense,
		struct invlock_pin *pin)
{
	return choose_range(uring, addr, len, dense, pin);
}

INVLOCK_ONLY_ADDRESS(2)
static inline int choose(struct invlock_uring *uring, const void *addr, size_t len,
			 struct invlock_pin *pin)
{
	if (len < uring->min_len)
		return choose_plain(uring, INVLOCK_URING_SMALL);
	if ((unsigned long)addr & uring->align_mask)
		return choose_plain(uring, INVLOCK_URING_UNALIGNED);
	return choose_range(uring, addr, len, true, pin);
}

int op_begins(struct invlock_uring *uring, int way, struct invlock_uring_op *op)
{
	op->uring = uring;
	op->way = way;
	if (way == INVLOCK_URING_FIXED)
		op->slot = slot_of(op->pin.handle);
	/* Only one thread prepares, so this needs no RMW. */
	__atomic_store_n(&uring->ways[way], uring_nr_prepared(uring, way) + 1, __ATOMIC_RELAXED);
	return way;
}

int invlock_uring_begin(struct invlock_uring *uring, const void *buf, size_t len,
			struct invlock_uring_op *op)
{
	int way;

	if (!uring || !op)
		return -EINVAL;
	way = choose(uring, buf, len, &op->pin);
	return way < 0 ? way : op_begins(uring, way, op);
}

/* a way or -errno */
static int begin(struct invlock_uring *uring, const struct io_uring_sqe *sqe, const void *addr,
		 size_t len, struct invlock_uring_op *op)
{
	return sqe ? invlock_uring_begin(uring, addr, len, op) : -EINVAL;
}

int invlock_uring_prime(struct invlock_uring *uring, void *addr, size_t len)
{
	uint64_t first = (unsigned long)addr, end = first + len, at;
	struct invlock_pin pin;
	int way;

	if (!uring || !addr || end <= first)
		return -EINVAL;
	first &= -uring->page;
	if (uring->max_bytes && end - first > uring->max_bytes)
		return choose_plain(uring, uring->max_is_memlock ? INVLOCK_URING_MEMLOCK :
				    INVLOCK_URING_LARGE);
	for (at = first; at < end; at += URING_MAX_BUFFER) {
		size_t piece = end - at < URING_MAX_BUFFER ? end - at : URING_MAX_BUFFER;

		way = choose_range(uring, (void *)(unsigned long)at, piece, true, &pin);
		if (way)
			return way;
		invlock_cache_put(&pin);
	}
	return INVLOCK_URING_FIXED;
}

static unsigned int moved(size_t len)
{
	return len < MOVED_MAX ? len : MOVED_MAX;
}

int invlock_uring_prep_read(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			    void *buf, size_t len, uint64_t offset, struct invlock_uring_op *op)
{
	int way = begin(uring, sqe, buf, len, op);

	if (way == INVLOCK_URING_FIXED)
		io_uring_prep_read_fixed(sqe, fd, buf, moved(len), offset, op->slot);
	else if (way > 0)
		io_uring_prep_read(sqe, fd, buf, moved(len), offset);
	return way;
}

int invlock_uring_prep_write(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			     const void *buf, size_t len, uint64_t offset,
			     struct invlock_uring_op *op)
{
	int way = begin(uring, sqe, buf, len, op);

	if (way == INVLOCK_URING_FIXED)
		io_uring_prep_write_fixed(sqe, fd, buf, moved(len), offset, op->slot);
	else if (way > 0)
		io_uring_prep_write(sqe, fd, buf, moved(len), offset);
	return way;
}

int invlock_uring_prep_send_zc(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			       const void *buf, size_t len, int flags, unsigned int zc_flags,
			       struct invlock_uring_op *op)
{
	int way = begin(uring, sqe, buf, len, op);

	if (way == INVLOCK_URING_FIXED)
		io_uring_prep_send_zc_fixed(sqe, fd, buf, moved(len), flags, zc_flags, op->slot);
	else if (way > 0)
		io_uring_prep_send_zc(sqe, fd, buf, moved(len), flags, zc_flags);
	return way;
}

/*
 * A program that keeps its own ring may give an entry that was used before. Since liburing 2.9 only
 * io_uring_get_sqe() clears it.
 */
static void clear(struct io_uring_sqe *sqe)
{
	__u64 data = sqe->user_data;

	memset(sqe, 0, sizeof(*sqe));
	sqe->user_data = data;
}

int invlock_uring_prep_cmd(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			   unsigned int cmd_op, const void *buf, size_t len,
			   struct invlock_uring_op *op)
{
	bool copied = ((unsigned long)buf | len) & (CMD_ALIGN - 1);
	int way;

	if (!uring || !sqe || !op)
		return -EINVAL;
	way = copied ? choose_plain(uring, INVLOCK_URING_UNALIGNED) :
	      choose(uring, buf, len, &op->pin);
	if (way < 0)
		return way;
	clear(sqe);
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, cmd_op);
	if (op_begins(uring, way, op) == INVLOCK_URING_FIXED) {
		sqe->rw_flags = IORING_URING_CMD_FIXED;	/* as uring_cmd_flags, which is newer */
		sqe->buf_index = op->slot;
	}
	return way;
}

int invlock_uring_done(struct invlock_uring_op *op)
{
	struct invlock_uring *uring = op ? op->uring : NULL;
	int err;

	if (!uring)
		return -EINVAL;
	if (op->way == INVLOCK_URING_FIXED) {
		err = invlock_cache_put(&op->pin);
		if (err)
			return err;
		/* after the put, since this says that the slot is free; pairs with still_full() */
		__atomic_fetch_add(&uring->done, 1, __ATOMIC_SEQ_CST);
	} else {
		err = uring_alive(uring);
		if (err)
			return err;
	}
	op->uring = NULL;
	return 0;
}
