/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The table of running calls: what each thread of a watched process has started and must end. */
#ifndef INVLOCK_BPF_CALLS_H
#define INVLOCK_BPF_CALLS_H

#include "mapping.h"

#define CALL_PROBES	32

/*
 * May a task be preempted inside a program, so that runs are skipped? The library sets this before
 * the load: it is a constant to the verifier.
 */
const volatile bool guarded;

/* The library sets this, too. A machine with one size of pages does not read it. */
const volatile u32 page_shift = 12;

/* What the machine for which the programs are compiled tells the library: see bpf/arch_*.h. */
const volatile bool guard_is_possible = GUARD_IS_POSSIBLE;

static inline struct bpf_call *call_at(const struct bpf_user *u, struct bpf_tables *t, u32 place)
{
	return &t->calls[place & (u->state.nr_calls - 1) & (BPF_NR_CALLS - 1)];
}

/* Return: the running call of a thread; NULL = the table has none. */
static __noinline struct bpf_call *find_call_slow(struct bpf_user *u, struct bpf_tables *t, u32 tid)
{
	u64 reach = port_load(&u->state.reach);

	for (u32 i = 1; i < CALL_PROBES && i < reach; i++) {
		struct bpf_call *s = call_at(u, t, tid + i);

		if (port_load(&s->owner) == tid)
			return s;
	}
	return NULL;
}

static inline struct bpf_call *find_call(struct bpf_user *u, u32 tid)
{
	struct bpf_tables *t = tables_of(u);
	struct bpf_call *s;

	if (!t)
		return NULL;
	s = call_at(u, t, tid);
	return likely(port_load(&s->owner) == tid) ? s : find_call_slow(u, t, tid);
}

static inline void end_ranges(struct bpf_user *u, struct bpf_call *s)
{
	if (likely(s->nr))
		feed_end(u, s->start[0], s->end[0]);
	if (unlikely(s->nr > 1))
		feed_end_slow(u, s->start[1], s->end[1]);
	/*
	 * A file that the call has mapped is in the table of files by now, or counted in
	 * nr_unknown.
	 */
	if (s->maps)
		port_fetch_add(&u->state.nr_mapping, -1ULL);
}

/* Return: false = this thread has no running call. */
static inline bool end_call(struct bpf_user *u, struct task_struct *task)
{
	struct bpf_call *s = find_call(u, task->pid);

	if (!s)
		return false;
	/*
	 * Running brk() calls of other threads have marked ranges that fit the old end of the heap.
	 */
	if (unlikely(s->brk && s->brk != task->mm->brk && !is_alone(task)))
		feed_close(u, BPF_CLOSED_HEAP);
	end_ranges(u, s);
	port_store_release(&s->owner, 0);
	return true;
}

/* The call of this entry is over, but its exit was not seen. */
static inline void heal(struct bpf_user *u, struct bpf_call *s)
{
	/* The heap's end may have moved: see end_call(). */
	if (s->brk)
		feed_close(u, BPF_CLOSED_HEAP);
	if (s->maps)
		files_unknown(u);
	end_ranges(u, s);
	port_fetch_add(&u->state.nr_healed, 1);
}

/* Return: an entry for a thread's call; NULL = too many calls run. */
static __noinline struct bpf_call *claim_call_slow(struct bpf_user *u, struct bpf_tables *t,
						   u32 tid)
{
	struct bpf_call *s = find_call(u, tid);

	if (s) {
		heal(u, s);
		return s;
	}
	for (u32 i = 0; i < CALL_PROBES; i++) {
		s = call_at(u, t, tid + i);
		if (port_load(&s->owner) || port_cmpxchg(&s->owner, 0, (u64)tid))
			continue;
		grow(&u->state.reach, i + 1, CALL_PROBES);
		return s;
	}
	return NULL;
}

static inline struct bpf_call *claim_call(struct bpf_user *u, u32 tid)
{
	struct bpf_tables *t = tables_of(u);
	struct bpf_call *s;

	if (!t)
		return NULL;
	s = call_at(u, t, tid);
	/* While every call lies at its home, this thread can have no older entry elsewhere. */
	return likely(port_load(&u->state.reach) == 1 && !port_load(&s->owner) &&
		      !port_cmpxchg(&s->owner, 0, (u64)tid)) ? s : claim_call_slow(u, t, tid);
}

static inline u32 class_of(u64 nr, struct task_struct *task)
{
	u8 both = call_classes[nr & NR_MASK];

	/* x32 has numbers of its own above 511: none of these calls changes a map. */
	if (!is_call(nr))
		return CALL_NONE;
	return is_compat(task) ? both >> 4 : both & 15;
}

/* Does this user want calls of this class to be marked? */
static inline bool is_wanted(const struct bpf_user *u, u32 class)
{
	return class != CALL_NONE && (class != CALL_MPROTECT || u->state.count_protect);
}

#endif /* INVLOCK_BPF_CALLS_H */
