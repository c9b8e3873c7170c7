/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The program that the library runs, in the process concerned, to ask the set for something. */
#ifndef INVLOCK_BPF_ASK_H
#define INVLOCK_BPF_ASK_H

#include "guard.h"
#include "look.h"

/*
 * May this task open the monitor by itself? A seat of the set, and what is not its own, is for such
 * tasks alone: every child of a process that uses the set inherits a descriptor of ask().
 */
static inline bool may_open(struct task_struct *task)
{
	const u64 both = 1ULL << CAP_BPF | 1ULL << CAP_PERFMON;
	u64 caps = caps_of(BPF_CORE_READ(task, cred));

	return caps & 1ULL << CAP_SYS_ADMIN || (caps & both) == both;
}

static inline int arm(struct bpf_set *set, u32 index, u64 mm)
{
	struct bpf_tables *t = tables_at(index);
	struct bpf_user *u = user_at(index);

	if (!u || !t || u->state.serial || set->seat[index].mm != mm)
		return -EINVAL;
	u->state.index = index;
	u->state.since = bpf_ktime_get_ns();
	u->state.serial = port_fetch_add(&set->serial, 1) + 1;
	port_store_release(&t->mm, mm);
	port_store_release(&set->mm[index], mm);
	if (take_place(mm, index))
		return -ENOSPC;
	port_store_release(&u->state.watching, 1);
	/*
	 * A full barrier. Either the thread that closes the set also closes this feed, or we see
	 * here that the set is closed. Either the thread that opens a window also marks this feed,
	 * or we see the window in cpu_is_unmarked().
	 */
	if (port_fetch_add(&set->closed, 0))
		return -ENODEV;
	/*
	 * Other threads may be removing pages already, as by truncating a file that is mapped here.
	 * Either net_gather() finds us, or we find that the kernel has counted the removal.
	 */
	if (set->header.net) {
		seat_doubts(index, 1);
		seat_doubts(index, 0);
	}
	return 0;
}

/* @trusted: the caller may open the monitor, so the numbers that it states are right. */
__noinline int note_missed(struct bpf_user *u, u64 missed, u64 total, u32 trusted)
{
	if (!u)
		return -ENOENT;
	if (port_load(&u->feed.missed) >= missed)
		return 0;
	if (guarded) {
		/* The windows in which these runs were skipped have made stale what had to be. */
		if (check_skipped(u, total, trusted))
			return -EAGAIN;
		port_store(&u->feed.missed, missed);
		return 0;
	}
	/* If a skipped call still runs, its exit marks it or is skipped and counted as well. */
	files_unknown(u);
	feed_lose(u);
	port_store(&u->feed.missed, missed);
	return 0;
}

static inline int note_found(struct bpf_user *u, u64 nr)
{
	if (!u)
		return -ENOENT;
	/* If two threads looked, the older result may be stored last: then a thread looks again. */
	port_store(&u->state.nr_found, nr);
	return 0;
}

/* The first process that says so is the loader: nobody else knows of the set so early. */
static inline int note_loader(struct bpf_set *set, u32 tgid)
{
	port_cmpxchg(&set->loader, 0, (u64)tgid);
	return 0;
}

/* The library runs this program in the process for which it asks. */
SEC("syscall")
int ask(struct bpf_ask *q)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, index = q->index & (BPF_NR_USERS - 1);
	u64 mm = mm_of(bpf_get_current_task_btf());
	bool trusted = may_open(bpf_get_current_task_btf());
	struct bpf_set *set = get_set();

	if (!set || !mm)
		return -EINVAL;
	switch (q->what) {
	case BPF_ASK_CLAIM:
		return trusted ? claim_seat(mm, tgid) : -EPERM;
	case BPF_ASK_TAKE_LEFT:
		return trusted ? find_seat(BPF_SEAT_LEFT, BPF_SEAT_TAKEN, tgid) : -EPERM;
	case BPF_ASK_RESERVE:
		return trusted ? find_seat(BPF_SEAT_FREE, BPF_SEAT_RESERVED, tgid) : -EPERM;
	case BPF_ASK_EVICT:
		return trusted ? evict(index) : -EPERM;
	case BPF_ASK_SEAT_UNMARKED:
		return trusted ? cpu_is_unmarked(user_at(index), q->nr) : -EPERM;
	case BPF_ASK_SEAT_MISSED:
		return trusted ? note_missed(user_at(index), q->nr, q->total, true) : -EPERM;
	case BPF_ASK_LOADED:
		return trusted ? note_loader(set, tgid) : -EPERM;
	case BPF_ASK_NOTE_MISSED:
		return note_missed(user_of(mm), q->nr, q->total, trusted);
	case BPF_ASK_NOTE_FOUND:
		return note_found(user_of(mm), q->nr);
	case BPF_ASK_LOOK:
		return look_at_range(user_of(mm), q);
	case BPF_ASK_UNMARKED:
		return cpu_is_unmarked(user_of(mm), q->nr);
	}
	/* The remaining requests are about a seat, which this process must hold. */
	if (set->seat[index].state != BPF_SEAT_TAKEN || set->seat[index].tgid != tgid)
		return -EINVAL;
	switch (q->what) {
	case BPF_ASK_ARM:
		return arm(set, index, mm);
	case BPF_ASK_LEAVE:
		return leave_seat(index, tgid) ? 0 : -EINVAL;
	case BPF_ASK_GIVE_BACK:
		if (!trusted)
			return -EPERM;
		vacate(set, index, BPF_SEAT_FREE);
		return 0;
	}
	return -EINVAL;
}

/*
 * The process that reads takes the seat that the daemon has reserved for it.
 *
 * Another thread of the process, or the daemon, may take the seat away meanwhile. The feed is
 * closed then. Either the thread that leaves the seat sees what arm() has stored, or we see here
 * that the seat is being left. It is not cleared before this program is over.
 */
static inline int take_reserved(struct bpf_set *set, u32 index)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 mm = mm_of(task);
	struct bpf_user *u = user_at(index);
	struct bpf_tables *t;
	int err;

	if (!mm || port_cmpxchg(&set->seat[index].state, BPF_SEAT_RESERVED, BPF_SEAT_TAKEN) !=
	    BPF_SEAT_RESERVED)
		return -EINVAL;
	port_store(&set->seat[index].tgid, (u32)task->tgid);
	if (u)
		port_store(&u->state.by_daemon, 1);
	err = seat_mm(index, mm);
	if (!err)
		err = arm(set, index, mm);
	if (err)
		evict(index);
	if (err || !port_load(&set->seat[index].leaving))
		return err;
	t = tables_at(index);
	give_place(set, index);
	port_store(&set->mm[index], 0);
	if (t)
		port_store(&t->mm, 0);
	return -ENODEV;
}

/*
 * The daemon gives its client a descriptor of this iterator over the client's map of its user. The
 * mm that reads it is the mm that is watched: nobody can name another. The client reads the result.
 */
SEC("iter/bpf_map_elem")
int sit_by_reading(struct bpf_iter__bpf_map_elem *ctx)
{
	const struct bpf_user *u = ctx->value;
	struct bpf_set *set = get_set();
	int result = -EINVAL;
	u32 index;

	if (!u || !set)
		return 0;
	index = u->state.index & (BPF_NR_USERS - 1);
	/* The seat may be another client's by now. */
	if (number_of(user_at(index)) == number_of(u))
		result = take_reserved(set, index);
	bpf_seq_write(ctx->meta->seq, &result, sizeof(result));
	return 0;
}

#endif /* INVLOCK_BPF_ASK_H */
