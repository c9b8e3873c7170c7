/* SPDX-License-Identifier: MIT */
/*
 * What a process does that has a seat in a set of programs, whether it has opened the set by itself
 * (bpf.c) or the daemon has given it the seat (client.c).
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_SEAT_H
#define INVLOCK_LIB_MONITOR_BPF_SEAT_H

#include "client.h"
#include "lib/mm.h"
#include "lib/monitor/look.h"
#include "progset.h"

/* This is what mm->data points to. */
struct monitor_bpf_data {
	struct progset set;
	struct seat_maps maps;	/* maps.user is mapped at mm->il.feed */
	struct daemon *daemon;	/* NULL = this process has opened the set by itself */
	void *kept;	/* holds the programs when their descriptors are closed: keep.h */
	u64 missed;	/* runs of the set that were skipped before we came */
	u32 scans_in_vain;	/* not 0: the daemon is gone, or a scan cannot be reported */
	/* what the net caught of calls that began before they could be announced */
	u64 nr_caught;
	struct bpf_caught caught[BPF_NR_CAUGHT];
};

/* Makes and freezes the maps of a seat. @index: the seat, if it is known. Return: 0 or -errno. */
int seat_make_maps(struct seat_maps *maps, u32 index, struct invlock_why *why);
void seat_close_tables(struct seat_maps *maps);
void seat_close_maps(struct seat_maps *maps);

/* Maps the feed, and fills mm->il. Return: 0 or -errno. */
int seat_map_user(struct invlock_mm *mm, int user, struct invlock_why *why);
void seat_unmap_user(struct invlock_mm *mm);

/*
 * After the arming, ends the open: records what is mapped, and waits for calls that run. From then
 * on mm->data is @data. Return: 0 or -errno.
 */
int seat_begin(struct invlock_mm *mm, struct monitor_bpf_data *data, struct invlock_why *why);

/* The functions of struct monitor. */
void seat_close(struct invlock_mm *mm, bool mine);
int seat_look(const struct invlock_mm *mm, u64 start, u64 end, struct look *ret_look);
int seat_watch(struct invlock_mm *mm, u64 start, u64 end);
u64 seat_nr_caught(const struct invlock_mm *mm);
void seat_describe(const struct invlock_mm *mm, struct invlock_why *ret_how);

/* The kinds of change that are seen only with a net under the decoder. */
#define NET_SEEN	(INVLOCK_BIT(TRUNCATE_PRIVATE) | INVLOCK_BIT(MOVE))
/* What the programs see everywhere, and what happens only to memory that is refused. */
#define SEEN		(INVLOCK_KINDS_SHARED | INVLOCK_BIT(RELEASE))
#define REFUSED		INVLOCK_BIT(TRUNCATE_PRIVATE)

#endif /* INVLOCK_LIB_MONITOR_BPF_SEAT_H */
