/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Blind windows: how a writer that is skipped on a CPU for a while stays exact.
 *
 * A kernel that preempts its own code may preempt a task inside a program of the writer. Until
 * that task has left the program, the same program is skipped for every other task on that CPU.
 * Two places are never skipped: a switch of that CPU from one task to another, where the guard
 * runs and nothing else does on that CPU; and the program that a task is inside already.
 *
 * The rules, for each CPU and each feed:
 * 1. The guard, when a task leaves the CPU inside a program, for whatever reason:
 *    invlock_blind_raise(), before the next task runs. So nobody is skipped outside of a window.
 * 2. The guard, whenever it leaves a task while a window is open: if that task is inside a
 *    call that can change the map, has not made the change yet, and nobody has marked it, the
 *    guard marks it, as invlock_inv_start() or as invlock_blind_start(); the mark ends when
 *    that task has left the call. A task that was skipped is left at least once before
 *    anybody can close the window, for the task that is inside needs the CPU.
 *    So a change that was missed is made, or marked, before the window closes.
 * 3. A program that finds a window open, or the guard, may close it:
 *
 *	struct invlock_blind_seen seen = invlock_blind_look(w);
 *	if (seen.number && nobody but this program is inside on this CPU)
 *		invlock_blind_close(il, w, seen, skipped runs on this CPU)
 *
 *    The look comes first. If this program is preempted after it, rule 1 raises the number, and
 *    the close fails: others may have been skipped since.
 *
 * All of it is done by the CPU itself. @misses is the sum over all programs whose skipping can
 * hide a change of this feed's mm; the kernel counts it before the skipped task goes on.
 */
#ifndef INVLOCK_CORE_BLIND_H
#define INVLOCK_CORE_BLIND_H

#include "invalidate.h"

/* one CPU's window of one feed; zeroed, then closed_misses is set before the feed is read */
struct invlock_blind {
	u64 number;		/* preemptions inside a program since it opened; 0 = closed */
	u64 event;		/* of invlock_blind_start(); while it is open */
	u64 opened_misses;	/* skipped runs when it opened; while it is open */
	u64 closed_misses;	/* when it was last closed; while it is closed */
};

/* what invlock_blind_look() saw */
struct invlock_blind_seen {
	u64 number, event, misses;
};

/**
 * invlock_blind_raise() - a task was preempted inside a program
 * @il: the feed
 * @w: this CPU's window
 * @misses: skipped runs on this CPU so far
 *
 * A run that was skipped while no window was open means that these rules are broken: then the
 * feed is closed for good.
 * Context: the guard. Return: false = it was closed for that reason. Since: 0.2
 */
static inline bool invlock_blind_raise(const struct invlock *il, struct invlock_blind *w,
				       u64 misses)
{
	/* pairs with the exchange in invlock_blind_close() */
	if (port_fetch_add(&w->number, 1))
		return true;
	port_store(&w->event, invlock_blind_start(il));
	port_store(&w->opened_misses, misses);
	if (likely(misses == port_load(&w->closed_misses)))
		return true;
	invlock_close_feed(il, INVLOCK_FEED_DEGRADED);
	return false;
}

/* what must be read before the caller looks who is inside */
static inline struct invlock_blind_seen invlock_blind_look(const struct invlock_blind *w)
{
	return (struct invlock_blind_seen){
		/* acquire: the rest is of this number; all of one CPU, so for the compiler */
		.number = port_load_acquire(&w->number),
		.event = port_load(&w->event),
		.misses = port_load(&w->opened_misses),
	};
}

/**
 * invlock_blind_close() - nobody is inside any more
 * @il: the feed
 * @w: this CPU's window
 * @seen: from before the caller found that nobody else is inside
 * @misses: skipped runs on this CPU so far, read after @seen
 *
 * Context: a program of the writer, which counts as one that is inside until it returns, or
 * the guard. Return: true = it is closed; false = somebody was preempted since. Since: 0.2
 */
static inline bool invlock_blind_close(const struct invlock *il, struct invlock_blind *w,
				       struct invlock_blind_seen seen, u64 misses)
{
	/* Before the exchange: after it, the next window may open at any moment. */
	port_store(&w->closed_misses, misses);
	if (port_cmpxchg(&w->number, seen.number, 0) != seen.number)
		return false;
	invlock_blind_end(il, seen.event, seen.misses != misses);
	return true;
}

#endif /* INVLOCK_CORE_BLIND_H */
