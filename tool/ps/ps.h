/* SPDX-License-Identifier: MIT */
/*
 * invlock ps: which processes have a feed on this machine, and what that costs.
 *
 *	ps.c		parses the options
 *	find.c		finds the feeds and the sets of BPF programs
 *	process.c	what /proc tells of processes
 *	cost.c		measures what a call costs
 *	text.c		prints the report for people
 *	json.c		prints the report for programs
 *
 * What this user may not see, or nobody can, is unknown, and a note says so: nothing is guessed.
 */
#ifndef INVLOCK_TOOL_PS_PS_H
#define INVLOCK_TOOL_PS_PS_H

#include <stdbool.h>
#include <sys/types.h>
#include <invlock/mm.h>

#include "lib/monitor/bpf/view.h"

#define MAX_NOTES	8
#define COMMAND_SIZE	32

/* What /proc tells of a process. */
struct ps_process {
	pid_t pid;		/* 0 = unknown */
	long uid;		/* -1 = unknown */
	u64 started;		/* CLOCK_BOOTTIME, nanoseconds; 0 = unknown */
	char command[COMMAND_SIZE];	/* "" = unknown */
};

struct ps_feed {
	const char *monitor;
	struct ps_process process;
	u64 age;		/* nanoseconds; 0 = unknown */
	u32 set;		/* id of its set; 0 = none, or unknown */
	bool reserved;		/* its process has not taken it yet */
	bool looked;		/* view is filled */
	struct feed_view view;
};

struct ps_cost {
	bool any;		/* programs run */
	bool measured;
	struct invlock_why why_not;
	/* nanoseconds in our programs; the second one of each pair: the call discards a page */
	double unwatched, unwatched_change;
	bool watched_measured;
	struct invlock_why watched_why_not;
	double watched, watched_change;
	double runs_per_second, cpu_share;
};

struct ps_report {
	struct ps_feed *feeds;
	unsigned int nr_feeds, room;
	struct sets_view sets;
	bool sets_known;
	struct ps_cost cost;
	struct invlock_why notes[MAX_NOTES];
	unsigned int nr_notes;
};

/* find.c: fills all but the cost. Return: 0; -ENOMEM */
int ps_find(struct ps_report *r);
void ps_free(struct ps_report *r);
__attribute__((format(printf, 2, 3)))
void ps_note(struct ps_report *r, const char *format, ...);
/* Adds a feed. Return: NULL = out of memory */
struct ps_feed *ps_add(struct ps_report *r, const char *monitor);

/* One word for the state of a feed, and a sentence or NULL. */
const char *ps_state(const struct ps_feed *f, const char **ret_reason);

/* process.c */
void ps_look_at_process(struct ps_process *p, pid_t pid);
/* Finds the feeds that only /proc knows of: those of kmod and uffd. */
int ps_find_in_proc(struct ps_report *r);
/* Do the numbers of processes that the kernel counts with mean the same here? */
bool ps_pids_are_the_kernels(void);
u64 ps_boot_time(void);

/* cost.c */
void ps_measure(struct ps_cost *c);

/* text.c and json.c: print to standard output */
void ps_print_text(const struct ps_report *r);
int ps_print_json(const struct ps_report *r);

#endif /* INVLOCK_TOOL_PS_PS_H */
