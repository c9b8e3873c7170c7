/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The BPF programs and the library that loads them share these types. This is no ABI: programs and
 * library ship together.
 */
#ifndef INVLOCK_BPF_SHARED_H
#define INVLOCK_BPF_SHARED_H

#include "core/blind.h"
#include <invlock/feed.h>
#include <linux/types.h>

/* Processes that one set of programs can watch at once; a power of two, and a multiple of 64. */
#define BPF_NR_USERS		1024
/* Their seats are visited in groups, of which most are empty. */
#define BPF_NR_GROUPS		(BPF_NR_USERS / 64)
/* Places to look for an mm: many more, so that each is close to its home; a power of two. */
#define BPF_NR_PLACES		(4 * BPF_NR_USERS)
/* Calls of one process that may run at once; a power of two. */
#define BPF_NR_CALLS		16384
/* Files of one process that were mapped at or since the open of the monitor; a power of two. */
#define BPF_NR_FILES		8192
/* Words of the filter of files, of 64 bits each; a power of two. */
#define BPF_FILTER_WORDS	1024
/* io_uring MADVISE requests of one process that may run at once; a power of two. */
#define BPF_NR_REQUESTS		4096
/* Removals and moves of pages that the net watches at once, in all processes; a power of two. */
#define BPF_NR_STRETCHES	1024
/* Different calls that the net counts by their number, for one process. */
#define BPF_NR_CAUGHT		8

/* CPUs that the guard can watch; a power of two. A machine with more CPUs has no guard. */
#define BPF_NR_CPUS		1024
/* Programs that the guard can watch. */
#define BPF_NR_GUARDED		96

/* A thread that may be inside a call which began before the monitor was armed. */
struct bpf_busy {
	__u32 tid;	/* in the thread's own pid namespace */
	__u32 nr;	/* number of the call */
};

/* The requests that the library sends to the program ask(). The answer is 0 or more, or -errno. */
enum bpf_what {
	BPF_ASK_CLAIM,		/* claim a seat for this process; answers its index */
	BPF_ASK_ARM,		/* watch this process from now on */
	BPF_ASK_LEAVE,		/* stop watching this process */
	BPF_ASK_TAKE_LEFT,	/* take a seat that was left, to clear it; answers its index */
	BPF_ASK_GIVE_BACK,	/* the seat is cleared: free it */
	BPF_ASK_NOTE_MISSED,	/* the kernel skipped runs of programs */
	BPF_ASK_NOTE_FOUND,	/* all mappings were scanned */
	BPF_ASK_LOOK,		/* what is mapped in a range: look_at_range() */
	BPF_ASK_UNMARKED,	/* is CPU nr blind without our feed saying so? 0 or 1 */
	/* What the daemon asks for another process, whose seat it has reserved. */
	BPF_ASK_RESERVE,	/* reserve a seat; answers its index */
	BPF_ASK_EVICT,		/* close the feed of a seat, and leave the seat */
	BPF_ASK_SEAT_UNMARKED,	/* UNMARKED, for the feed of a seat */
	BPF_ASK_SEAT_MISSED,	/* NOTE_MISSED, for the feed of a seat */
	BPF_ASK_LOADED,		/* this process has loaded the set */
};

struct bpf_ask {
	__u32 what;
	__u32 index;
	__u64 nr;		/* MISSED: runs skipped since we came; FOUND: nr_unknown */
				/* before the scan; LOOK: mask of enum mapped that is good; */
				/* UNMARKED: a CPU */
	__u64 total;		/* NOTE_MISSED: runs skipped since the set came */
	__u64 start, end;	/* LOOK */
};

/* A seat: the place of one process in a set. */
enum bpf_seat_state {
	BPF_SEAT_FREE,
	BPF_SEAT_TAKEN,
	BPF_SEAT_LEFT,		/* its process is gone, but its user map is still there */
	BPF_SEAT_RESERVED,	/* the daemon has put maps there, for a process to take it */
};

struct bpf_seat {
	__u32 state;		/* enum bpf_seat_state; claimed by compare-exchange */
	__u32 tgid;		/* process that holds it, in the initial pid namespace */
	__u64 mm;		/* mm that holds it, from the claim on */
	__u64 place;		/* index of its struct bpf_place, plus 1; 0 = none */
	__u64 leaving;		/* not 0: it is being left, or was left and is not cleared */
};

/* Which seat has an mm? The places are a hash table. */
struct bpf_place {
	__u64 seat;		/* plus 1; 0 = free; claimed by compare-exchange */
	__u64 mm;
};

/* Where the programs that see the calls are attached. */
enum bpf_attached {
	BPF_AT_TRACEPOINTS,	/* that every call of every process passes */
	BPF_AT_FUNCTIONS,	/* of the calls that can change a map: see attach.h */
};

/* May a task be preempted inside a program, so that runs of other tasks are skipped? */
enum bpf_guarding {
	BPF_GUARD_UNNEEDED,	/* no */
	BPF_GUARD_ON,		/* yes, and the guard sees each time: guard.h */
	BPF_GUARD_MISSING,	/* yes, but there is no guard: nothing is exact */
};

/* The answer of the probe: probe.bpf.c. */
enum bpf_probe {
	BPF_PROBE_UNKNOWN,
	BPF_PROBE_PREEMPTIBLE,
	BPF_PROBE_NOT_PREEMPTIBLE,
};

#define BPF_REASON_SIZE		508

/*
 * By this header, a build of the library recognizes a set that it can use. The header is written
 * before the set is frozen.
 */
struct bpf_set_header {
	__u64 object;		/* hash of the object file */
	__u32 nr_programs;
	__u32 nr_links;
	__u32 attached;		/* enum bpf_attached */
	__u32 guard;		/* enum bpf_guarding */
	char reason[BPF_REASON_SIZE];	/* why not at the functions */
	char no_guard[BPF_REASON_SIZE];	/* why the guard is missing */
	__u32 net;		/* is there a net under the decoder? See net.h */
	char no_net[BPF_REASON_SIZE];	/* why there is no net */
};

/* What all processes that share a set of programs have in common. */
struct bpf_set {
	struct bpf_set_header header;
	__u64 serial;		/* the serial of the user that was armed last */
	__u64 closed;		/* not 0: calls may go unseen, so every feed is closed */
	__u64 loader;		/* tgid of the process that loaded the set; see BPF_ASK_LOADED */
	__u64 reach;		/* exclusive bound on the distance of a place from its home */
	struct bpf_place place[BPF_NR_PLACES] __attribute__((aligned(64)));
	__u64 held[BPF_NR_GROUPS];	/* a bit for each seat; 0 = its state is FREE */
	__u64 mm[BPF_NR_USERS];		/* armed mms, by seat */
	struct bpf_seat seat[BPF_NR_USERS];
	__u64 filter[BPF_FILTER_WORDS];	/* bit set: a file with this hash may be in a table */
};

/* One of our programs, as the guard knows it. */
struct bpf_guarded {
	__u64 active;		/* its counter of runs inside, as a per-CPU address */
	__u64 stats;		/* its statistics, as a per-CPU address */
	__u32 id;
	__u32 role;		/* enum bpf_role */
};

/* What it means when a run of a program is skipped. */
enum bpf_role {
	BPF_ROLE_CALL,		/* a call was not marked */
	BPF_ROLE_URING,		/* a request was not marked, or its end never comes */
	BPF_ROLE_ALL,		/* what went unseen may concern every process */
	BPF_ROLE_LIFE,		/* a process that is gone still holds its seat */
	BPF_ROLE_NET,		/* a removal was not caught, or stays marked */
	BPF_NR_ROLES
};

/* The state of one CPU. Only programs on this CPU write it: guard.h lists them. */
struct bpf_guard_cpu {
	__u64 window;		/* not 0: the CPU is blind; number of the newest preemption */
	__u64 newest;		/* number of preemptions inside a program so far */
	__u64 settled;		/* runs skipped on it in windows that are over */
	__u64 from[BPF_NR_ROLES];	/* runs skipped before its newest window */
	__u64 since;		/* time at which its window opened; nanoseconds */
} __attribute__((aligned(128)));

struct bpf_guard {
	__u64 nr_blind;		/* CPUs that are blind now */
	__u64 settled;		/* runs skipped in windows that are over */
	__u32 own;		/* nesting of disabled migration that is the guard's own */
	__u32 nr_programs;
	__u32 nr_cpus;
	__u32 teacher;		/* the thread that loads the guard, until it has shown own */
	/*
	 * Statistics for people. nr_windows: preemptions inside a program. nr_skipping: windows in
	 * which a run was skipped. total_ns and longest_ns: how long windows were open.
	 */
	__u64 nr_windows __attribute__((aligned(64)));
	__u64 nr_skipping;
	__u64 nr_marked;	/* calls that the guard marked: their enter was skipped */
	__u64 nr_ended;		/* calls that the guard ended: their exit was skipped */
	__u64 violations;	/* runs skipped outside of any window */
	__u64 total_ns;
	__u64 longest_ns;
	struct bpf_guarded program[BPF_NR_GUARDED];
	struct bpf_guard_cpu cpu[BPF_NR_CPUS];
};

/*
 * The time that a thread spends in functions of the net: see stretch.h. A stretch is freed by the
 * thread that takes its word to 0 by compare-exchange.
 */
struct bpf_stretch {
	__u64 owner;		/* a thread, or the address of a gather; 0 = free; claimed by */
				/* compare-exchange */
	__u64 word;		/* unique number, and a mask of functions; 0 = not begun */
	__u64 seat;		/* seat of the user, or EVERY_SEAT */
	__u64 serial;		/* serial of the user: the seat may be another's by now */
	__u64 start;
	__u64 end;
};

struct bpf_net {
	__u64 number;		/* number of the stretch that began last */
	__u64 reach;		/* exclusive bound on the distance of a stretch from its home */
	struct bpf_stretch stretch[BPF_NR_STRETCHES];
};

/* A call that removed or moved pages without having been announced. */
struct bpf_caught {
	__u64 who;		/* BPF_CAUGHT_*, with the call's number; 0 = free */
	__u64 nr;
};

#define BPF_CAUGHT_NATIVE	(1ULL << 32)
#define BPF_CAUGHT_COMPAT	(2ULL << 32)
#define BPF_CAUGHT_NO_CALL	(3ULL << 32)	/* in a fault, or on the way back from a call */
#define BPF_CAUGHT_KERNEL	(4ULL << 32)	/* a thread of the kernel */

/* Why a feed was closed. */
enum bpf_closed {
	BPF_OPEN,
	BPF_CLOSED_GONE,	/* the process has ended or has called exec */
	BPF_CLOSED_CALLS,	/* too many calls ran at once */
	BPF_CLOSED_HEAP,	/* prctl() moved the heap while other threads ran */
	BPF_CLOSED_REQUESTS,	/* too many io_uring requests, or one whose end goes unseen */
	BPF_CLOSED_NET,		/* a move, or huge pages that go, whose end may go unseen */
	BPF_CLOSED_GUARD,	/* the kernel skipped a run where the guard says it cannot */
	BPF_CLOSED_SKIPPED,	/* a run was skipped that no guard can make up for */
	BPF_CLOSED_TRACING,	/* programs at functions were switched off */
	BPF_CLOSED_EVICTED,	/* the connection to the daemon has ended */
};

/* The state of one watched process. */
struct bpf_state {
	__u64 watching;		/* 0: no mm is watched, so nothing is written */
	__u64 serial;		/* unique among the users of a set */
	__u32 index;		/* its seat */
	/* The library sets the following before the map is frozen. */
	__u32 nr_calls;
	__u32 nr_files;
	__u32 count_protect;
	__u32 files_full;	/* the table is full: events of files not in it count */
	__u32 by_daemon;	/* 1: the daemon has given the seat to its process */
	__u64 since;		/* when the seat was armed; CLOCK_MONOTONIC, nanoseconds */
	/*
	 * nr_mapping: running calls that may map a file. nr_unknown: calls whose result could not
	 * be looked up when they exited. nr_found: how many of these a later scan of all mappings
	 * has covered. Unless nr_mapping is 0 and the other two are equal, an event of any file is
	 * an event of all addresses.
	 */
	__u64 nr_mapping;
	__u64 nr_unknown;
	__u64 nr_found;
	__u64 nr_scanned;	/* mappings that scans came by, with a file or without */
	__u64 nr_found_late;	/* file mappings that only the look before a get has found */
	__u64 nr_requests;	/* running io_uring requests */
	__u64 nr_unpaired;	/* calls whose enter was not seen */
	__u64 nr_healed;	/* calls whose exit was not seen */
	__u64 reach;		/* exclusive bound on the distance of a call from its home */
	__u64 nr_gathers;	/* removals that were caught and are still running */
	__u64 doubtful;		/* 1: everything is marked until no removal runs: stretch.h */
	__u64 nr_caught;	/* removals and moves caught so far */
	struct bpf_caught caught[BPF_NR_CAUGHT];	/* the first few calls that they were in */
	__u64 closed;		/* enum bpf_closed: why the feed was first closed */
};

/* A running call. Only the thread that owns an entry writes it. */
struct bpf_call {
	__u64 owner;		/* tid; 0 = free; claimed by compare-exchange */
	__u64 nr;		/* number of ranges that are marked as running */
	__u64 start[2];
	__u64 end[2];
	__u64 maps;		/* not 0: it may map a file and is counted in nr_mapping */
	__u64 brk;		/* not 0: it may move the heap's end, which was here */
};

/* A running io_uring MADVISE request. */
struct bpf_request {
	__u64 req;		/* struct io_kiocb *; 0 = free; claimed by compare-exchange */
	__u64 ring;
	__u64 user_data;
	__u64 start;
	__u64 end;
};

/* Where a file is mapped: within [~not_lo, hi). Both fields start at 0 and only grow. */
struct bpf_file {
	__u64 mapping;		/* struct address_space *; 0 = free; claimed by compare-exchange */
	__u64 not_lo;
	__u64 hi;
	__u64 base;		/* byte n of the file is at base + n; see BASE_* in files.h */
};

/*
 * A user: one watched process and its feed. A user is the value of a map of its own, which is
 * frozen before use: the process and its children map it, and cannot write it. What they may not
 * see, addresses of the kernel above all, is in struct bpf_tables.
 */
struct bpf_user {
	union {
		struct invlock_feed feed;
		__u8 feed_header[INVLOCK_FEED_HEADER_SIZE];
	};
	__u64 words[INVLOCK_NR_WORDS];
	struct invlock_event events[INVLOCK_NR_EVENTS];
	struct bpf_state state;
	struct invlock_blind blind[BPF_NR_CPUS];	/* this feed's window of each CPU */
};

/*
 * What the programs alone see of a user. The tables are the value of a map of their own, which
 * nobody can map, and of which no process keeps a descriptor.
 */
struct bpf_tables {
	__u64 mm;		/* the mm that is watched; 0 = none */
	struct bpf_call calls[BPF_NR_CALLS];
	struct bpf_request requests[BPF_NR_REQUESTS];
	struct bpf_file files[BPF_NR_FILES];
};

#endif /* INVLOCK_BPF_SHARED_H */
