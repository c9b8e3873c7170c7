/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Stretches: a stretch is the time that a thread spends in functions that the net (net.h) watches.
 * Some stretches have a range of a user that is marked as running. The others are harmless to all
 * users, and only record that.
 *
 * Only its own thread begins and ends a stretch. But where the kernel may skip a program, the end
 * may never come. So when a program of the net was skipped in a window of any CPU, net_settle()
 * ends the stretches at the end of that window. It spares those that no count of the kernel covers:
 * the guard ends them when their thread leaves the CPU, or exits. Each stretch has a word that
 * contains a unique number: only the thread that takes this word to 0 ends the stretch. The range
 * is marked before the word is set, and the mark is removed after the word is cleared.
 *
 * After that, a removal that is under way is marked no more, or was never marked since its program
 * was skipped. The kernel counts the removals that are under way in each mm (tlb_flush_pending). It
 * counts up inside tlb_gather_mmu(), before our program at that function's exit, and down in
 * tlb_finish_mmu(), before our program at that function's exit. While this count is not 0, the user
 * is *doubtful*: everything is marked until the last removal is over. A user is also doubtful when
 * the table of stretches is full.
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

/* Which functions a thread is in: the low bits of a stretch's word. */
enum net_in {
	/* These functions mark a range of the user. */
	NET_UNMAP_RANGE		= 1 << 0,
	NET_UNMAP_PAGES		= 1 << 1,	/* on some kernels inside of NET_UNMAP_RANGE */
	NET_UNMAP_HUGE		= 1 << 2,
	NET_UFFD_MOVE		= 1 << 3,
	NET_GATHER		= 1 << 4,	/* a gather that was caught */
	NET_MOVE		= 1 << 5,	/* a move that was caught */
	/* These functions are harmless to every user. */
	NET_PROTECT		= 1 << 6,
	NET_NUMA		= 1 << 7,
	NET_FOLIO		= 1 << 8,
	NET_URING		= 1 << 9,
};

/*
 * The kernel's count does not cover these from their first moment to their last. Their own thread
 * ends them, or the guard when that thread has left them.
 */
#define NET_BY_THREAD	(NET_UNMAP_HUGE | NET_UFFD_MOVE | NET_MOVE)

#define NET_IN_BITS	16
#define NET_IN_MASK	((1ULL << NET_IN_BITS) - 1)

/* The seat of a stretch that is harmless to every user. */
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

/* Return: the stretch of @owner for this seat; NULL = there is none. */
static __noinline struct bpf_stretch *stretch_find(struct bpf_net *net, u64 owner, u64 seat)
{
	u64 reach = port_load(&net->reach);

	for (u32 i = 0; i < STRETCH_PROBES && i < reach; i++) {
		struct bpf_stretch *s = stretch_at(net, owner, i);

		/*
		 * Only the owner's thread adds a stretch of this owner, so none appears during this
		 * search.
		 */
		if (port_load(&s->owner) == owner && port_load(&s->seat) == seat &&
		    port_load(&s->word))
			return s;
	}
	return NULL;
}

/* Return: a free stretch, claimed for @owner; NULL = there are too many. */
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

/* Begin a stretch that is claimed and whose range is marked. */
static inline void stretch_begin(struct bpf_net *net, struct bpf_stretch *s, u64 in)
{
	u64 number = port_fetch_add(&net->number, 1) + 1;

	port_store_release(&s->word, number << NET_IN_BITS | in);
}

/*
 * End a stretch. @w: its word, read before its range. Return: true = the caller ended the stretch
 * and must end its mark.
 */
static inline bool stretch_take(struct bpf_stretch *s, u64 w)
{
	if (port_cmpxchg(&s->word, w, 0) != w)
		return false;
	port_store_release(&s->owner, 0);
	return true;
}

/* Mark everything of this user, since a removal may be under way that is not marked. */
static inline void doubt(struct bpf_user *u)
{
	feed_start_slow(u, 0, INVLOCK_ADDRESS_END, INVLOCK_KIND_UNKNOWN, 0);
	/* The mark comes first: a program that finds doubtful at 1 may remove the mark. */
	if (port_cmpxchg(&u->state.doubtful, 0, 1))
		feed_end_slow(u, 0, INVLOCK_ADDRESS_END);
}

/*
 * If no removal is under way, end the doubt. Call this after setting doubtful, or after the kernel
 * has counted a removal down.
 */
static inline void doubt_ends(struct bpf_user *u)
{
	struct bpf_tables *t = port_load(&u->state.doubtful) ? tables_of(u) : NULL;
	struct mm_struct *mm;

	if (!t)
		return;
	mm = (struct mm_struct *)t->mm;
	if (!BPF_CORE_READ(mm, tlb_flush_pending.counter) &&
	    port_cmpxchg(&u->state.doubtful, 1, 0) == 1)
		feed_end_slow(u, 0, INVLOCK_ADDRESS_END);
}

/* @begins: 1 = mark everything; 0 = end that, if no removal is under way. */
__noinline int seat_doubts(u32 seat, u32 begins)
{
	struct bpf_user *u = armed_at(seat);

	if (!u || !port_load(&u->state.watching))
		return 0;
	if (begins)
		doubt(u);
	else
		doubt_ends(u);
	return 0;
}

VISITOR(doubt_group, seat_doubts(seat, v->a))

static inline void all_doubt(u32 begins)
{
	struct visit v = { .a = begins };

	visit(doubt_group, &v);
}

static inline void count_gather(struct bpf_user *u, u64 in, u64 nr)
{
	if (in & NET_GATHER)
		port_fetch_add(&u->state.nr_gathers, nr);
}

/* End what this stretch has marked. */
__noinline int user_loses_stretch(struct bpf_user *u, u64 start, u64 end, u64 serial, u64 in)
{
	if (!u || u->state.serial != serial)
		return 0;
	feed_end_slow(u, start, end);
	count_gather(u, in, -1ULL);
	return 0;
}

static inline void stretch_ends(struct bpf_user *u, struct bpf_stretch *s, u64 w)
{
	u64 start = port_load(&s->start), end = port_load(&s->end);

	if (!stretch_take(s, w))
		return;
	feed_end_slow(u, start, end);
	count_gather(u, w, -1ULL);
}

/*
 * Return: the stretch of this user that belongs to @owner, a thread or a gather, with its word in
 * ret_word; NULL = there is none.
 */
static inline struct bpf_stretch *find_stretch(struct bpf_user *u, struct bpf_net *net, u64 owner,
					       u64 *ret_word)
{
	struct bpf_stretch *s = stretch_find(net, owner, u->state.index);

	*ret_word = s ? port_load_acquire(&s->word) : 0;
	return *ret_word && port_load(&s->serial) == u->state.serial ? s : NULL;
}

/* The thread @tid is in none of these functions any more: end what it has marked there. */
static __noinline void end_own(struct bpf_user *u, u32 tid, u64 in)
{
	struct bpf_net *net = get_net();
	struct bpf_stretch *s;
	u64 w;

	if (!net)
		return;
	s = find_stretch(u, net, tid, &w);
	if (s && w & in)
		stretch_ends(u, s, w);
}

/*
 * A thread has exited: what is still marked for it, ends. The guard may have made a second entry
 * for its call: see mend().
 */
__noinline int seat_loses_thread(u32 seat, u32 tid, u32 tgid)
{
	struct bpf_set *set = get_set();
	struct bpf_user *u;
	struct bpf_call *s;

	seat &= BPF_NR_USERS - 1;
	if (!set || (set->seat[seat].tgid != tgid && !(guarded && port_load(&set->mm[seat]))))
		return 0;
	u = user_at(seat);
	if (!u || !port_load(&u->state.watching))
		return 0;
	for (u32 i = 0; i < 2; i++) {
		s = find_call(u, tid);
		if (!s)
			break;
		heal(u, s);
		port_store_release(&s->owner, 0);
	}
	end_own(u, tid, NET_BY_THREAD);
	return 0;
}

VISITOR(lose_thread_group, seat_loses_thread(seat, v->a, v->b))

/*
 * A thread that exits is in no call. If the exit of its last call was not seen, nothing else would
 * end what that call has marked. The thread has no mm any more, and the process that shares its mm
 * may be another one (CLONE_VM): then only a skipped run can have left a mark.
 */
static inline void lose_thread(u32 tgid, u32 tid)
{
	struct visit v = { .a = tid, .b = tgid };

	visit(lose_thread_group, &v);
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
	if (!w || w & NET_BY_THREAD)
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
 * The guard calls this: a program of the net was skipped in the window that is about to close.
 *
 *	net_settle()				a thread in a stretch
 *	all users are doubtful
 *						tlb_gather_mmu(): the count is 1
 *	its stretch is over			net_gather(): is it in a stretch?
 *	is the count 0?
 *
 * Either net_gather() finds no stretch and catches the gather, or the count is not 0 here and the
 * doubt stays.
 */
__noinline int net_settle(void)
{
	u64 unused = 0;

	all_doubt(1);
	bpf_loop(BPF_NR_STRETCHES, settle_stretch, &unused, 0);
	all_doubt(0);
	return 0;
}

#endif /* INVLOCK_BPF_STRETCH_H */
