/* SPDX-License-Identifier: MIT */
/*
 * What is watched on this machine: the sets that run, the processes that have a seat in them, and
 * what their feeds say. This only looks. It is for `invlock ps` and for the daemon.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_VIEW_H
#define INVLOCK_LIB_MONITOR_BPF_VIEW_H

#include "progset.h"

/* What a feed says of itself at one moment. All counters are since it was opened. */
struct feed_view {
	u64 since;	/* when it was armed; CLOCK_MONOTONIC, nanoseconds; 0 = not yet */
	u64 sequence;	/* events so far */
	u64 lost, dropped, missed, caught;
	u64 blind;	/* CPUs on which changes may go unseen now */
	u64 flags;	/* INVLOCK_FEED_* */
	u64 closed;	/* enum bpf_closed */
	u32 doubtful;
	u32 by_daemon;	/* the daemon has given the seat */
};

/* Looks at the feed in a user map. Return: 0; -EINVAL = it is no user map of ours; -errno. */
int feed_look(int user_map, struct feed_view *ret_view);

/*
 * Why is a feed closed? @closed: enum bpf_closed. Return: the end of a sentence; NULL = it is open.
 */
const char *feed_closed_reason(u64 closed);

/* The same as one word, for programs that read it: "open", "gone", "calls", ... */
const char *feed_closed_word(u64 closed);

/* How often the programs of a set have run, as the kernel counts it while somebody wants it to. */
struct run_count {
	u64 runs;
	u64 ns;
	u64 skipped;	/* runs that the kernel skipped: always counted */
};

int progset_count_runs(const struct progset *set, struct run_count *ret_count);

/* A seat that is taken or reserved. */
struct seat_view {
	u32 seat;
	u32 state;	/* enum bpf_seat_state */
	u32 tgid;	/* in the initial pid namespace */
	int err;	/* why its feed cannot be looked at; 0 = feed is filled */
	struct feed_view feed;
};

struct set_view {
	u32 id;
	bool known;	/* of this build of the library; else all from here to nr_seats is unset */
	struct bpf_set_header header;
	u64 loader;	/* tgid of the process that loaded it; 0 = unknown */
	bool closed;	/* it closes every feed: calls may go unseen */
	struct seat_view *seats;
	unsigned int nr_seats;
	u32 uid;	/* of the process that loaded it */
	u64 loaded_at;	/* CLOCK_BOOTTIME, nanoseconds */
	unsigned int nr_programs;
};

struct sets_view {
	struct set_view *sets;
	unsigned int nr;
	struct run_count runs;	/* of all programs of all sets */
};

/*
 * Looks at all sets. Context: sleeps. Return: 0, and then sets_view_free() is due; -EPERM = this
 * takes CAP_SYS_ADMIN; -ENOMEM; or the kernel's error.
 */
int sets_look(struct sets_view *ret_view);
void sets_view_free(struct sets_view *view);

/* Counts the runs of all programs of all sets anew. Return: 0 or -errno. */
struct progsets;
int sets_count_runs(const struct progsets *sets, struct run_count *ret_count);

#endif /* INVLOCK_LIB_MONITOR_BPF_VIEW_H */
