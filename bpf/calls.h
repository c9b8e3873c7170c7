/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The calls that run: what each thread of a watched process has started and must end. */
#ifndef INVLOCK_BPF_CALLS_H
#define INVLOCK_BPF_CALLS_H

#include "mapping.h"

#define CALL_PROBES	32

static inline struct bpf_call *call_at(struct bpf_user *u, u32 place)
{
	return &u->calls[place & (u->state.nr_calls - 1) & (BPF_NR_CALLS - 1)];
}

/* the call of a thread that runs; NULL: none */
static __noinline struct bpf_call *find_call_further(struct bpf_user *u, u32 tid)
{
	u64 reach = port_load(&u->state.reach);

	for (u32 i = 1; i < CALL_PROBES && i < reach; i++) {
		struct bpf_call *s = call_at(u, tid + i);

		if (port_load(&s->owner) == tid)
			return s;
	}
	return NULL;
}

static inline struct bpf_call *find_call(struct bpf_user *u, u32 tid)
{
	struct bpf_call *s = call_at(u, tid);

	return likely(port_load(&s->owner) == tid) ? s : find_call_further(u, tid);
}

static inline void end_ranges(struct bpf_user *u, struct bpf_call *s)
{
	if (likely(s->nr))
		feed_end(u, s->start[0], s->end[0]);
	if (unlikely(s->nr > 1))
		feed_end_long(u, s->start[1], s->end[1]);
	/* what it has mapped is in the table of files, or counted in nr_unknown */
	if (s->maps)
		port_fetch_add(&u->state.nr_mapping, -1ULL);
}

/* Return: false when this thread has no call that runs */
static inline bool end_call(struct bpf_user *u, struct task_struct *task)
{
	struct bpf_call *s = find_call(u, task->pid);

	if (!s)
		return false;
	/* brk() calls of other threads that run have ranges around another heap */
	if (unlikely(s->brk && s->brk != task->mm->brk && !is_alone(task)))
		feed_close(u, INVLOCK_FEED_DEGRADED);
	end_ranges(u, s);
	port_store_release(&s->owner, 0);
	return true;
}

/* an entry for the call of a thread; NULL: too many run */
static __noinline struct bpf_call *claim_call_further(struct bpf_user *u, u32 tid)
{
	struct bpf_call *s = find_call(u, tid);

	if (s) {
		/* the exit of this thread's last call was not seen, but it is over */
		if (s->maps)
			files_unknown(u);
		end_ranges(u, s);
		port_fetch_add(&u->state.nr_healed, 1);
		return s;
	}
	for (u32 i = 0; i < CALL_PROBES; i++) {
		s = call_at(u, tid + i);
		if (port_load(&s->owner) || port_cmpxchg(&s->owner, 0, (u64)tid))
			continue;
		grow(&u->state.reach, i + 1, CALL_PROBES);
		return s;
	}
	return NULL;
}

static inline struct bpf_call *claim_call(struct bpf_user *u, u32 tid)
{
	struct bpf_call *s = call_at(u, tid);

	/* as long as each call lies at its home, nothing of this thread's is left elsewhere */
	return likely(port_load(&u->state.reach) == 1 && !port_load(&s->owner) &&
		      !port_cmpxchg(&s->owner, 0, (u64)tid)) ? s : claim_call_further(u, tid);
}

/* was it made as i386 calls are? */
static inline bool is_compat(struct task_struct *task)
{
	return task->thread_info.status & TS_COMPAT;
}

static inline u32 class_of(u64 nr, struct task_struct *task)
{
	u8 both = call_classes[nr & NR_MASK];

	/* x32's own, none of which changes a map */
	if (nr & ~(X32_BIT | NR_MASK))
		return CALL_NONE;
	return is_compat(task) ? both >> 4 : both & 15;
}

/* is a call of this class of interest to this user? */
static inline bool wanted(const struct bpf_user *u, u32 class)
{
	return class != CALL_NONE && (class != CALL_MPROTECT || u->state.count_protect);
}

#endif /* INVLOCK_BPF_CALLS_H */
