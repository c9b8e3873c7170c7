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

/* Global functions: the verifier looks at each once, not at every call; and u may be NULL. */

__noinline int feed_start(struct bpf_user *u, u64 start, u64 end, u32 kind)
{
	struct invlock il;

	if (!u)
		return 0;
	view_feed(&il, u);
	invlock_inv_start(&il, start, end, kind, (u32)bpf_get_current_pid_tgid(),
			  bpf_ktime_get_ns());
	return 0;
}

__noinline int feed_end(struct bpf_user *u, u64 start, u64 end)
{
	struct invlock il;

	if (!u)
		return 0;
	view_feed(&il, u);
	invlock_inv_end(&il, start, end);
	return 0;
}

/* a change that is found only when it is over */
static inline void feed_bump(struct bpf_user *u, u64 start, u64 end, u32 kind)
{
	feed_start(u, start, end, kind);
	feed_end(u, start, end);
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

__noinline int feed_close(struct bpf_user *u, u64 flag)
{
	struct invlock il;

	if (!u)
		return 0;
	view_feed(&il, u);
	invlock_close_feed(&il, flag);
	return 0;
}

#endif /* INVLOCK_BPF_FEED_H */
