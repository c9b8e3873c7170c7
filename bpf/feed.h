/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The write side of the lock on the feed of one user. */
#ifndef INVLOCK_BPF_FEED_H
#define INVLOCK_BPF_FEED_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "core/invalidate.h"
#include "kernel.h"
#include "shared.h"

static inline void view_feed(struct invlock *il, struct bpf_user *u)
{
	*il = (struct invlock){
		.feed = &u->feed,
		.words = u->words,
		.events = u->events,
		.word_mask = INVLOCK_NR_WORDS - 1,
		.event_mask = INVLOCK_NR_EVENTS - 1,
		.stripe_shift = INVLOCK_STRIPE_SHIFT,
	};
}

/*
 * Events carry no time: reading the clock would be a third of an event's cost, and no reader uses
 * it.
 */
#define NO_TIME	0

/*
 * Global functions: the verifier checks each of them once, not at every call, and must assume that
 * u can be NULL. The next two accept any range. Most ranges lie in a single stripe; feed_start()
 * and feed_end() handle those without a function call, which would be a good part of the cost.
 */

__noinline int feed_start_slow(struct bpf_user *u, u64 start, u64 end, u32 kind, u32 tid)
{
	struct invlock il;

	if (!u)
		return 0;
	view_feed(&il, u);
	invlock_inv_start(&il, start, end, kind, tid, NO_TIME);
	return 0;
}

__noinline int feed_end_slow(struct bpf_user *u, u64 start, u64 end)
{
	struct invlock il;

	if (!u)
		return 0;
	view_feed(&il, u);
	invlock_inv_end(&il, start, end);
	return 0;
}

static inline bool in_one_stripe(u64 start, u64 end)
{
	return invlock_range_ok(start, end) &&
	       invlock_in_one_stripe(start, end, INVLOCK_STRIPE_SHIFT);
}

static inline void feed_start(struct bpf_user *u, u64 start, u64 end, u32 kind, u32 tid)
{
	struct invlock il;

	if (unlikely(!in_one_stripe(start, end))) {
		feed_start_slow(u, start, end, kind, tid);
		return;
	}
	view_feed(&il, u);
	invlock_inv_start(&il, start, end, kind, tid, NO_TIME);
}

static inline void feed_end(struct bpf_user *u, u64 start, u64 end)
{
	struct invlock il;

	if (unlikely(!in_one_stripe(start, end))) {
		feed_end_slow(u, start, end);
		return;
	}
	view_feed(&il, u);
	/* One byte stands for the whole stripe, and lets the compiler see that there is no loop. */
	invlock_inv_end(&il, start, start + 1);
}

/* Record a change that is found only when it is over. */
static inline void feed_bump(struct bpf_user *u, u64 start, u64 end, u32 kind)
{
	feed_start_slow(u, start, end, kind, (u32)bpf_get_current_pid_tgid());
	feed_end_slow(u, start, end);
}

__noinline int feed_lose(struct bpf_user *u)
{
	struct invlock il;

	if (!u)
		return 0;
	view_feed(&il, u);
	invlock_lose(&il);
	return 0;
}

/* @why: enum bpf_closed */
__noinline int feed_close(struct bpf_user *u, u32 why)
{
	struct invlock il;

	if (!u)
		return 0;
	view_feed(&il, u);
	port_cmpxchg(&u->state.closed, BPF_OPEN, (u64)why);
	invlock_close_feed(&il, why == BPF_CLOSED_GONE ? INVLOCK_FEED_DEAD :
							 INVLOCK_FEED_DEGRADED);
	return 0;
}

#endif /* INVLOCK_BPF_FEED_H */
