/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The read section: the loop in which a translation is made.
 *
 *	struct invlock_section s;
 *
 *	invlock_section_init(&s, il, start, end, NULL, 0);
 *	while (invlock_attempt(&s)) {	waits until the range is quiet, samples
 *		translate: fault, pin, register; may sleep
 *		if (invlock_commit(&s))	checks
 *			break;		publish, with the snapshot s.snap
 *		undo
 *	}
 *	return invlock_section_error(&s);
 *
 * The head samples and the commit checks: there is no other way to do either, so
 * a sample cannot be hoisted out of the loop and grow old there.
 */
#ifndef INVLOCK_CORE_SECTION_H
#define INVLOCK_CORE_SECTION_H

#include "read.h"

#define INVLOCK_DEFAULT_ROUNDS		64
#define INVLOCK_DEFAULT_TIME_NS		1000000000ULL

/**
 * struct invlock_budget - when to give up
 * @rounds: attempts that may collide; 0 = INVLOCK_DEFAULT_ROUNDS
 * @time_ns: wall time from the first collision or wait on, work included;
 *	0 = INVLOCK_DEFAULT_TIME_NS
 *
 * Whichever is spent first ends the section with -EBUSY.
 */
struct invlock_budget {
	u32 rounds;
	u64 time_ns;
};

#define INVLOCK_SECTION_INTERRUPTIBLE	1u	/* a signal ends a wait with -EINTR */

/* All fields are private; only snap may be read, after a commit that returned true. */
struct invlock_section {
	const struct invlock *il;
	u64 start, end;
	struct invlock_snapshot snap;
	struct invlock_budget left;
	u64 deadline;		/* 0: the clock has not been started */
	u32 flags;
	u32 collisions;		/* rounds that were undone */
	u32 waits;		/* times the head found the range busy */
	int error;		/* not 0 = the loop is over; the owner may set it, too */
	bool sampled;
	bool done;
};

/**
 * invlock_section_init() - prepare the loop
 * @s: the section, on the caller's stack
 * @il: the feed
 * @start: first byte
 * @end: the byte after the last
 * @budget: NULL for the defaults
 * @flags: INVLOCK_SECTION_*
 *
 * A bad range (empty, or wrapping) is reported by invlock_section_error(); the
 * loop then does not run. Context: any, never sleeps. Since: 0.1
 */
static inline void invlock_section_init(struct invlock_section *s, const struct invlock *il,
					u64 start, u64 end, const struct invlock_budget *budget,
					u32 flags)
{
	/* one by one: snap is set by the sample, and need not be zeroed */
	s->il = il;
	s->start = start;
	s->end = end;
	s->left.rounds = budget && budget->rounds ? budget->rounds : INVLOCK_DEFAULT_ROUNDS;
	s->left.time_ns = budget && budget->time_ns ? budget->time_ns : INVLOCK_DEFAULT_TIME_NS;
	s->deadline = 0;
	s->flags = flags;
	s->collisions = 0;
	s->waits = 0;
	s->error = invlock_range_ok(start, end) ? 0 : -EINVAL;
	s->sampled = false;
	s->done = false;
}

/* the slow paths of invlock_attempt() and invlock_commit() */
bool invlock_attempt_slow(struct invlock_section *s);
bool invlock_commit_slow(struct invlock_section *s);

/**
 * invlock_attempt() - the head: wait until the range is quiet, then sample
 * @s: the section
 *
 * Context: may sleep. Locks: none that an invalidation may need.
 * Return: true = do the work; false = leave the loop, invlock_section_error() says
 * why. Since: 0.1
 */
static inline bool invlock_attempt(struct invlock_section *s)
{
	if (unlikely(s->error || s->done ||
		     !invlock_try_sample(s->il, s->start, s->end, &s->snap)))
		return invlock_attempt_slow(s);
	s->sampled = true;
	return true;
}

/**
 * invlock_section_wait() - one turn of waiting, which counts against the budget
 * @s: the section
 * @nr_waits: turns in a row before this one
 *
 * For a caller that finds out by itself whether the range is quiet, as invlock_attempt() does.
 * Context: may sleep. Return: 0: look again; -EBUSY: the time is spent; -EINTR: a signal came.
 * Since: 0.1
 */
int invlock_section_wait(struct invlock_section *s, u32 nr_waits);

/* A caller that waits by itself calls this before each wait: see @nudge of struct invlock. */
void invlock_nudge(const struct invlock *il, u32 nr_waits);

/**
 * invlock_undo() - the work itself failed: go round again, within the same budget
 * @s: the section; instead of invlock_commit()
 *
 * Context: any, never sleeps. Since: 0.1
 */
void invlock_undo(struct invlock_section *s);

/**
 * invlock_commit() - did nothing collide with the work?
 * @s: the section; the attempt before this returned true
 *
 * Context: any. If the writer of the feed can be blind, or marks changes late (il->settle), this
 * may wait for the answer, within the budget. It never waits for a feed in the kernel.
 * Locks: the one under which the result is published, if there is one. Without such a lock, every
 * use must validate with the snapshot again.
 * Ordering: acquire; pairs with invlock_inv_start().
 * Return: true = publish and leave; false = undo and go round. Since: 0.1
 */
static inline bool invlock_commit(struct invlock_section *s)
{
	if (unlikely(!s->sampled || s->il->settle ||
		     !invlock_unmoved(s->il, &s->snap, s->start, s->end)))
		return invlock_commit_slow(s);
	s->sampled = false;
	s->done = true;
	return true;
}

/**
 * invlock_section_error() - how the loop ended
 * @s: the section
 *
 * Return: 0 after a commit that returned true, or while undecided; -EINVAL for a bad
 * range, or a commit without an attempt; -EBUSY when the budget is spent; -EINTR
 * when a signal came; -EOWNERDEAD when the mm is gone; -ENOTRECOVERABLE when the
 * feed is degraded. Since: 0.1
 */
static inline int invlock_section_error(const struct invlock_section *s)
{
	return s->error;
}

#endif /* INVLOCK_CORE_SECTION_H */
