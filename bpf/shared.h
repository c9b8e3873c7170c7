/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What the BPF program and the library that loads it agree on. No ABI: they ship together. */
#ifndef INVLOCK_BPF_SHARED_H
#define INVLOCK_BPF_SHARED_H

#include "core/blind.h"
#include <invlock/feed.h>
#include <linux/types.h>

/* Processes that one set of programs can watch at once; a power of two. */
#define BPF_NR_USERS		64
/* Of one process: calls that may run at once; a power of two. */
#define BPF_NR_CALLS		16384
/* Of one process: files mapped since the monitor was opened, or still mapped then; the same. */
#define BPF_NR_FILES		8192
/* Words of the filter of files: 64 in each. A power of two. */
#define BPF_FILTER_WORDS	1024
/* Of one process: io_uring MADVISE requests that may run at once; a power of two. */
#define BPF_NR_REQUESTS		4096
/* Removals and moves of pages that the net watches at once, of all; a power of two. */
#define BPF_NR_STRETCHES	1024
/* Different calls that it counts by their number, of one process. */
#define BPF_NR_CAUGHT		8

/* CPUs that the guard can watch: a machine with more has no guard; a power of two. */
#define BPF_NR_CPUS		1024
/* Programs that it can watch. */
#define BPF_NR_GUARDED		96

/* A thread that may be inside a call which began before the monitor was armed. */
struct bpf_busy {
	__u32 tid;	/* as its own pid namespace counts */
	__u32 nr;	/* the call */
};

/* What the library asks of the program ask(); the answer is 0 or more, or -errno. */
enum bpf_what {
	BPF_ASK_CLAIM,		/* a seat for this process: its index */
	BPF_ASK_ARM,		/* watch it, from now on */
	BPF_ASK_LEAVE,		/* watch it no more */
	BPF_ASK_TAKE_LEFT,	/* a seat that somebody left, to be cleared: its index */
	BPF_ASK_GIVE_BACK,	/* it is cleared */
	BPF_ASK_NOTE_MISSED,	/* the kernel skipped runs */
	BPF_ASK_NOTE_FOUND,	/* all mappings were looked at */
	BPF_ASK_LOOK,		/* what is mapped in a range: look_at_range() */
	BPF_ASK_UNMARKED,	/* is CPU nr blind without our feed saying so? 0 or 1 */
};

struct bpf_ask {
	__u32 what;
	__u32 index;
	__u64 nr;		/* MISSED: runs skipped since we came; FOUND: nr_unknown */
				/* before the look; LOOK: mask of enum mapped that is good; */
				/* UNMARKED: a CPU */
	__u64 total;		/* NOTE_MISSED: runs skipped since the set came */
	__u64 start, end;	/* LOOK */
};

/* A seat: the place of one process in a set. */
enum bpf_seat_state {
	BPF_SEAT_FREE,
	BPF_SEAT_TAKEN,
	BPF_SEAT_LEFT,		/* its process is gone, the memory of its user not yet */
};

struct bpf_seat {
	__u32 state;		/* enum bpf_seat_state; claimed by compare-exchange */
	__u32 tgid;		/* whose; as the kernel counts */
	__u64 mm;		/* the same, from the claim on */
};

/* Where the programs that see the calls are. */
enum bpf_attached {
	BPF_AT_TRACEPOINTS,	/* of every call of everybody */
	BPF_AT_FUNCTIONS,	/* of the calls that can change a map: see attach.h */
};

/* May a task be preempted inside a program, so that others' runs of it are skipped? */
enum bpf_guarding {
	BPF_GUARD_UNNEEDED,	/* no */
	BPF_GUARD_ON,		/* yes, and the guard sees each time: guard.h */
	BPF_GUARD_MISSING,	/* yes, and there is no guard: nothing is exact */
};

/* What the probe finds: probe.bpf.c. */
enum bpf_probe {
	BPF_PROBE_UNKNOWN,
	BPF_PROBE_PREEMPTIBLE,
	BPF_PROBE_NOT_PREEMPTIBLE,
};

#define BPF_REASON_SIZE		124

/* How one build of the library knows a set that it can use; written before the set is frozen. */
struct bpf_set_header {
	__u64 object;		/* hash of the object file */
	__u32 nr_programs;
	__u32 nr_links;
	__u32 attached;		/* enum bpf_attached */
	__u32 guard;		/* enum bpf_guarding */
	char reason[BPF_REASON_SIZE];	/* why not to the functions */
	char no_guard[BPF_REASON_SIZE];	/* why it is missing */
	__u32 net;		/* is there a net under the decoder? See net.h */
	char no_net[BPF_REASON_SIZE];	/* why not */
};

/* What all processes that share a set of programs have in common. */
struct bpf_set {
	struct bpf_set_header header;
	__u64 serial;		/* of the user armed last */
	__u64 closed;		/* not 0: calls may be missed, so every feed is closed */
	__u64 reach;		/* no mm sits this far from its home, or further */
	__u64 mm[BPF_NR_USERS] __attribute__((aligned(64)));	/* armed, by seat */
	struct bpf_seat seat[BPF_NR_USERS];
	__u64 filter[BPF_FILTER_WORDS];	/* a bit is set: one of these files may be in a table */
};

/* One of our programs, for the guard. */
struct bpf_guarded {
	__u64 active;		/* its counter of runs, as a per-CPU address */
	__u64 stats;		/* the same of its statistics */
	__u32 id;
	__u32 role;		/* enum bpf_role */
};

/* What it means when a run of a program is skipped. */
enum bpf_role {
	BPF_ROLE_CALL,		/* a call was not marked */
	BPF_ROLE_URING,		/* a request was not, and its end may never come */
	BPF_ROLE_ALL,		/* what was missed may concern everybody */
	BPF_ROLE_LIFE,		/* a process that is gone still has its seat */
	BPF_ROLE_NET,		/* a removal was not caught, or one that is marked is over */
	BPF_NR_ROLES
};

/* One CPU. Raised and lowered on this CPU alone: guard.h says by whom. */
struct bpf_guard_cpu {
	__u64 window;		/* not 0: it is blind; the number of the newest preemption */
	__u64 newest;		/* so many preemptions inside a program were there */
	__u64 settled;		/* runs skipped in its windows that are over */
	__u64 from[BPF_NR_ROLES];	/* runs skipped before its newest window */
	__u64 since;		/* when it opened; nanoseconds */
} __attribute__((aligned(128)));

struct bpf_guard {
	__u64 nr_blind;		/* CPUs that are blind now */
	__u64 settled;		/* runs skipped in windows that are over */
	__u32 own;		/* how often the guard itself disables migration of whom it sees */
	__u32 nr_programs;
	__u32 nr_cpus;
	__u32 reserved;
	/* for people: preemptions inside, windows in which a run was skipped, how long they were */
	__u64 nr_windows __attribute__((aligned(64)));
	__u64 nr_skipping;
	__u64 nr_marked;	/* calls marked by the guard, as their enter was skipped */
	__u64 nr_ended;		/* the same of their exit */
	__u64 violations;	/* runs skipped outside of any window */
	__u64 total_ns;
	__u64 longest_ns;
	struct bpf_guarded program[BPF_NR_GUARDED];
	struct bpf_guard_cpu cpu[BPF_NR_CPUS];
};

/*
 * From one of the net's functions to another, on one thread: see stretch.h. Whoever takes the
 * word to 0 by compare-exchange frees it.
 */
struct bpf_stretch {
	__u64 owner;		/* a thread, or the address of a gather; 0 = free; claimed by */
				/* compare-exchange */
	__u64 word;		/* a number of its own, and a mask: which functions; 0 = not yet */
	__u64 seat;		/* of the user */
	__u64 serial;		/* of the user: another may sit there now */
	__u64 start;
	__u64 end;
};

struct bpf_net {
	__u64 number;		/* of the stretch begun last */
	__u64 reach;		/* none lies this far from its home, or further */
	struct bpf_stretch stretch[BPF_NR_STRETCHES];
};

/* A call that removed pages, or moved them, and was not announced. */
struct bpf_caught {
	__u64 who;		/* BPF_CAUGHT_*, with the call's number; 0 = free */
	__u64 nr;
};

#define BPF_CAUGHT_NATIVE	(1ULL << 32)
#define BPF_CAUGHT_COMPAT	(2ULL << 32)
#define BPF_CAUGHT_NO_CALL	(3ULL << 32)	/* in a fault, or on its way back from a call */
#define BPF_CAUGHT_KERNEL	(4ULL << 32)	/* a thread of the kernel */

/* The state of one watched process. */
struct bpf_state {
	__u64 mm;		/* the mm that is watched; 0 = none: nothing is written */
	__u64 serial;		/* no two users of a set have the same */
	__u32 index;		/* its seat */
	/* set by the library before the map is frozen */
	__u32 nr_calls;
	__u32 nr_files;
	__u32 count_protect;
	__u32 files_full;	/* the table is: events of files that are not in it count */
	__u32 reserved;
	/*
	 * Calls that run and may map a file; calls whose result could not be looked up when they
	 * exited, and so many of these as a later look at all mappings has found. Until the first
	 * is 0 and the others are equal, each file's events are everywhere.
	 */
	__u64 nr_mapping;
	__u64 nr_unknown;
	__u64 nr_found;
	__u64 nr_found_late;	/* mappings of files that only a look before a lookup has found */
	__u64 nr_requests;	/* io_uring requests that run */
	__u64 nr_unpaired;	/* calls whose enter was not seen */
	__u64 nr_healed;	/* calls whose exit was not seen */
	__u64 reach;		/* no call lies this far from its home, or further */
	__u64 nr_gathers;	/* removals that were caught and still run */
	__u64 doubtful;		/* 1: everything is marked until no removal runs: see stretch.h */
	__u64 nr_caught;	/* removals and moves that were caught so far, */
	struct bpf_caught caught[BPF_NR_CAUGHT];	/* and in which calls; the first few */
};

/* A call that runs. Only its own thread touches one that it owns. */
struct bpf_call {
	__u64 owner;		/* tid; 0 = free; claimed by compare-exchange */
	__u64 nr;		/* ranges that were started */
	__u64 start[2];
	__u64 end[2];
	__u64 maps;		/* it may map a file, and is counted in nr_mapping */
	__u64 brk;		/* not 0: it may move the heap's end from here */
};

/* An io_uring MADVISE request that runs. */
struct bpf_request {
	__u64 req;		/* struct io_kiocb *; 0 = free; claimed by compare-exchange */
	__u64 ring;
	__u64 user_data;
	__u64 start;
	__u64 end;
};

/* Where a file is mapped: within [~not_lo, hi), so that both only grow, from 0. */
struct bpf_file {
	__u64 mapping;		/* struct address_space *; 0 = free; claimed by compare-exchange */
	__u64 not_lo;
	__u64 hi;
	__u64 base;		/* its byte n is at base + n; see BASE_* in files.h */
};

/*
 * A user: one watched process, its feed and all that the program keeps for it. The value of
 * a map of its own, frozen before use: neither the process nor its children can write it.
 */
struct bpf_user {
	union {
		struct invlock_feed feed;
		__u8 feed_header[INVLOCK_FEED_HEADER_SIZE];
	};
	__u64 words[INVLOCK_NR_WORDS];
	struct invlock_event events[INVLOCK_NR_EVENTS];
	struct bpf_state state;
	struct invlock_blind blind[BPF_NR_CPUS];	/* the window of each CPU, for this feed */
	struct bpf_call calls[BPF_NR_CALLS];
	struct bpf_request requests[BPF_NR_REQUESTS];
	struct bpf_file files[BPF_NR_FILES];
};

#endif /* INVLOCK_BPF_SHARED_H */
