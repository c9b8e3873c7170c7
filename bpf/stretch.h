/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Stretches: what a thread is in the middle of, as the net (net.h) knows it. Some have a range of
 * a user that is marked as running; the others are harmless to all, and only say so.
 *
 * Only its own thread begins and ends a stretch, but where the kernel may skip a program, the end
 * may never come. Then net_settle() ends them all, whatever they are, at the end of the window in
 * which a program of the net was skipped, on whatever CPU that is. Each stretch has a word with a
 * number of its own: only the thread that takes it to 0 ends the stretch. The mark is made before
 * the word, and taken away after it.
 *
 * A removal that is under way by then is not marked any more, or never was, since it was skipped.
 * The kernel counts these for each mm (tlb_flush_pending): inside tlb_gather_mmu(), before our
 * program at its end, and down again before our program at the end of tlb_finish_mmu(). As long as
 * it is not 0, the user is *doubtful*: everything is marked, until the last of them is over.
 */
#ifndef INVLOCK_BPF_STRETCH_H
#define INVLOCK_BPF_STRETCH_H

#include "calls.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct bpf_net);
} invlock_net SEC(".maps");

/* which functions a thread is in; the low bits of a word */
enum net_in {
	/* marked: with a range of the user */
	NET_UNMAP_RANGE		= 1 << 0,
	NET_UNMAP_PAGES		= 1 << 1,	/* on some kernels inside of the one above */
	NET_UNMAP_HUGE		= 1 << 2,
	NET_UFFD_MOVE		= 1 << 3,
	NET_GATHER		= 1 << 4,	/* was caught */
	NET_MOVE		= 1 << 5,	/* the same */
	/* harmless, whoever it concerns */
	NET_PROTECT		= 1 << 6,
	NET_NUMA		= 1 << 7,
	NET_FOLIO		= 1 << 8,
	NET_URING		= 1 << 9,
};

#define NET_IN_BITS	16
#define NET_IN_MASK	((1ULL << NET_IN_BITS) - 1)

/* of a stretch that is harmless to all */
#define EVERY_SEAT	BPF_NR_USERS

#define STRETCH_PROBES	64

static inline struct bpf_net *get_net(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&invlock_net, &zero);
}

static inline u32 this_thread(void)
{
	return (u32)bpf_get_current_pid_tgid();
}

static inline struct bpf_stretch *stretch_at(struct bpf_net *net, u64 owner, u32 i)
{
	u32 home = (u32)(owner * 0x9e3779b97f4a7c15ULL >> 32);

	return &net->stretch[(home + i) & (BPF_NR_STRETCHES - 1)];
}

/* NULL: it is in none */
static __noinline struct bpf_stretch *stretch_find(struct bpf_net *net, u64 owner, u64 seat)
{
	u64 reach = port_load(&net->reach);

	for (u32 i = 0; i < STRETCH_PROBES && i < reach; i++) {
		struct bpf_stretch *s = stretch_at(net, owner, i);

		/* of the stretches of one owner, each is its own: nobody but it adds another */
		if (port_load(&s->owner) == owner && port_load(&s->seat) == seat &&
		    port_load(&s->word))
			return s;
	}
	return NULL;
}

/* NULL: there are too many */
static __noinline struct bpf_stretch *stretch_claim(struct bpf_net *net, u64 owner)
{
	for (u32 i = 0; i < STRETCH_PROBES; i++) {
		struct bpf_stretch *s = stretch_at(net, owner, i);

		if (port_load(&s->owner) || port_cmpxchg(&s->owner, 0, owner))
			continue;
		grow(&net->reach, i + 1, STRETCH_PROBES);
		return s;
	}
	return NULL;
}

/* begin one that is claimed, and marked */
static inline void stretch_begin(struct bpf_net *net, struct bpf_stretch *s, u64 in)
{
	u64 number = port_fetch_add(&net->number, 1) + 1;

	port_store_release(&s->word, number << NET_IN_BITS | in);
}

/* Return: it is over, and whoever called ends its mark; @w: its word, read before its range */
static inline bool stretch_take(struct bpf_stretch *s, u64 w)
{
	if (port_cmpxchg(&s->word, w, 0) != w)
		return false;
	port_store_release(&s->owner, 0);
	return true;
}

/* everything of this user is marked, since a removal may be under way that is not */
static inline void doubt(struct bpf_user *u)
{
	feed_start_long(u, 0, INVLOCK_ADDRESS_END, INVLOCK_KIND_UNKNOWN, 0);
	/* the mark first: a program that finds 1 may take it away */
	if (port_cmpxchg(&u->state.doubtful, 0, 1))
		feed_end_long(u, 0, INVLOCK_ADDRESS_END);
}

/* is no removal under way? Asked after doubtful was set, or after the kernel counted one down */
static inline void doubt_ends(struct bpf_user *u)
{
	struct mm_struct *mm = (struct mm_struct *)u->state.mm;

	if (port_load(&u->state.doubtful) && !BPF_CORE_READ(mm, tlb_flush_pending.counter) &&
	    port_cmpxchg(&u->state.doubtful, 1, 0) == 1)
		feed_end_long(u, 0, INVLOCK_ADDRESS_END);
}

/* 1: everything is marked; 0: that ends, if no removal is under way */
__noinline int user_doubts(struct bpf_user *u, u32 begins)
{
	if (!u || !port_load(&u->state.mm))
		return 0;
	if (begins)
		doubt(u);
	else
		doubt_ends(u);
	return 0;
}

static inline void all_doubt(struct bpf_set *set, u32 begins)
{
	for (u32 i = 0; i < BPF_NR_USERS; i++)
		if (port_load(&set->mm[i]))
			user_doubts(user_at(i), begins);
}

static inline void count_gather(struct bpf_user *u, u64 in, u64 nr)
{
	if (in & NET_GATHER)
		port_fetch_add(&u->state.nr_gathers, nr);
}

/* end what this stretch has marked; a move that was caught is counted by no gather */
__noinline int user_loses_stretch(struct bpf_user *u, u64 start, u64 end, u64 serial, u64 in)
{
	if (!u || u->state.serial != serial)
		return 0;
	if (in & NET_MOVE)
		feed_close(u, INVLOCK_FEED_DEGRADED);
	feed_end_long(u, start, end);
	count_gather(u, in, -1ULL);
	return 0;
}

static long settle_stretch(u32 i, u64 *unused)
{
	struct bpf_net *net = get_net();
	struct bpf_stretch *s;
	u64 w, start, end, seat, serial;

	if (!net)
		return 1;
	s = &net->stretch[i & (BPF_NR_STRETCHES - 1)];
	w = port_load_acquire(&s->word);
	if (!w)
		return 0;
	start = port_load(&s->start);
	end = port_load(&s->end);
	seat = port_load(&s->seat);
	serial = port_load(&s->serial);
	if (stretch_take(s, w) && seat < BPF_NR_USERS)
		user_loses_stretch(user_at(seat), start, end, serial, w & NET_IN_MASK);
	return 0;
}

/*
 * The guard: a program of the net was skipped in this window, which is about to close.
 *
 *	net_settle()				a thread in a stretch
 *	all users are doubtful
 *						tlb_gather_mmu(): the count is 1
 *	its stretch is over			net_gather(): is it in a stretch?
 *	is the count 0?
 *
 * Either it is in none and so is caught, or the count is found here and the doubt stays.
 */
__noinline int net_settle(void)
{
	struct bpf_set *set = get_set();
	u64 unused = 0;

	if (!set)
		return 0;
	all_doubt(set, 1);
	bpf_loop(BPF_NR_STRETCHES, settle_stretch, &unused, 0);
	all_doubt(set, 0);
	return 0;
}

#endif /* INVLOCK_BPF_STRETCH_H */
