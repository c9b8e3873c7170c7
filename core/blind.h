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
 * 1. When a task leaves the CPU while it is inside a program, for whatever reason, the guard calls
 *    invlock_blind_raise() before the next task runs. So no task is skipped outside of a window.
 * 2. When a task leaves the CPU while a window is open, the guard looks at the task's call. If the
 *    call can change the map, has not changed it yet, and is not marked, the guard marks it, by
 *    invlock_inv_start() or invlock_blind_start(). The mark ends when the task has left the call.
 *    A task that was skipped leaves the CPU at least once before the window can be closed, because
 *    the task that is inside needs the CPU. So a change that was missed is made, or marked, before
 *    the window closes.
 * 3. The guard, or a program that finds a window open, may close it:
 *
 *	struct invlock_blind_seen seen = invlock_blind_look(w);
 *	if (seen.number && no run but this program's own is inside on this CPU)
 *		invlock_blind_close(il, w, seen, skipped runs on this CPU)
 *
 *    The look comes first. If this program is preempted after the look, rule 1 raises the number,
 *    and the close fails: other tasks may have been skipped since.
 *
 * All of this runs on the CPU concerned. @misses is the sum over all programs whose skipping can
 * hide a change of this feed's mm; the kernel counts a skipped run before the task goes on.
 */
#ifndef INVLOCK_CORE_BLIND_H
#define INVLOCK_CORE_BLIND_H

#include "invalidate.h"

/* One CPU's window of one feed: zeroed memory, where closed_misses is set before the first use. */
struct invlock_blind {
	u64 number;		/* preemptions inside a program since it opened; 0 = closed */
	u64 event;		/* while it is open: what invlock_blind_start() returned */
	u64 opened_misses;	/* while it is open: skipped runs when it opened */
	u64 closed_misses;	/* while it is closed: skipped runs when it closed */
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

/* Reads what must be read before the caller counts the runs that are inside. */
static inline struct invlock_blind_seen invlock_blind_look(const struct invlock_blind *w)
{
	return (struct invlock_blind_seen){
		/* acquire: the rest belongs to this number; it only holds back the compiler */
		.number = port_load_acquire(&w->number),
		.event = port_load(&w->event),
		.misses = port_load(&w->opened_misses),
	};
}

/**
 * invlock_blind_close() - close the window, since no task is inside any more
 * @il: the feed
 * @w: this CPU's window
 * @seen: from before the caller found that no other task is inside
 * @misses: skipped runs on this CPU so far, read after @seen
 *
 * Context: a program of the writer, which counts as one that is inside until it returns, or
 * the guard. Return: true = it is closed; false = a task was preempted since. Since: 0.2
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
