/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The maps every part of the program needs, and the write side of the lock on them.
 *
 * None of them is writable by the process that is watched: the feed and the state are
 * frozen before use, so neither it nor its children can change them.
 */
#ifndef INVLOCK_BPF_FEED_H
#define INVLOCK_BPF_FEED_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "core/invalidate.h"
#include "kernel.h"
#include "shared.h"

struct feed_memory {
	union {
		struct invlock_feed header;
		u8 header_bytes[INVLOCK_FEED_HEADER_SIZE];
	};
	u64 words[INVLOCK_NR_WORDS];
	struct invlock_event events[INVLOCK_NR_EVENTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct feed_memory);
} feed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct bpf_state);
} state SEC(".maps");

/* set by the library before the program is loaded */
const volatile __u64 cookie;
const volatile __u32 nr_slots = BPF_NR_CALLS;
const volatile bool count_protect;

static inline struct bpf_state *get_state(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&state, &zero);
}

static inline bool get_feed(struct invlock *il)
{
	u32 zero = 0;
	struct feed_memory *mem = bpf_map_lookup_elem(&feed, &zero);

	if (!mem)
		return false;
	*il = (struct invlock){
		.feed = &mem->header,
		.words = mem->words,
		.events = mem->events,
		.word_mask = INVLOCK_NR_WORDS - 1,
		.event_mask = INVLOCK_NR_EVENTS - 1,
		.stripe_shift = INVLOCK_STRIPE_SHIFT,
	};
	return true;
}

/* Global functions: the verifier looks at each once, not at every call. */

__noinline int feed_start(u64 start, u64 end, u32 kind)
{
	struct invlock il;

	if (get_feed(&il))
		invlock_inv_start(&il, start, end, kind, (u32)bpf_get_current_pid_tgid(),
				  bpf_ktime_get_ns());
	return 0;
}

__noinline int feed_end(u64 start, u64 end)
{
	struct invlock il;

	if (get_feed(&il))
		invlock_inv_end(&il, start, end);
	return 0;
}

/* a change that is found only when it is over */
static inline void feed_bump(u64 start, u64 end, u32 kind)
{
	feed_start(start, end, kind);
	feed_end(start, end);
}

__noinline int feed_lose(void)
{
	struct invlock il;

	if (get_feed(&il))
		invlock_lose(&il);
	return 0;
}

__noinline int feed_close(u64 flag)
{
	struct invlock il;

	if (get_feed(&il))
		invlock_close_feed(&il, flag);
	return 0;
}

#endif /* INVLOCK_BPF_FEED_H */
