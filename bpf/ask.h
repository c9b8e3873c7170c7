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
	u->state.serial = port_fetch_add(&set->serial, 1) + 1;
	port_store_release(&t->mm, mm);
	port_store_release(&set->mm[index], mm);
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
	 */
	if (set->header.net) {
		user_doubts(u, 1);
		user_doubts(u, 0);
	}
	return 0;
}

/* @trusted: the caller may open the monitor, so the numbers that it states are right. */
static inline int note_missed(struct bpf_user *u, u64 missed, u64 total, bool trusted)
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
		return trusted ? take_left_seat(tgid) : -EPERM;
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

#endif /* INVLOCK_BPF_ASK_H */
