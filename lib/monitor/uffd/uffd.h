/* SPDX-License-Identifier: MIT */
/*
 * The userfaultfd monitor, inside.
 *
 *	monitor_uffd.c		open, close, and what readers ask
 *	monitor_uffd_watch.c	watch and unwatch
 *	monitor_uffd_thread.c	the thread that reads the kernel's events
 *	monitor_uffd_ranges.c	which memory is watched, and by how many
 */
#ifndef INVLOCK_LIB_MONITOR_UFFD_UFFD_H
#define INVLOCK_LIB_MONITOR_UFFD_UFFD_H

#include <linux/userfaultfd.h>
#include <pthread.h>

#include "core/invlock.h"
#include "lib/mm.h"
#include "lib/own_fd.h"

/*
 * Counted ranges: an edge wherever one begins or ends, in a skip list by address. The count
 * of an edge holds up to the next one. An edge stays as long as it is the end of a range, so
 * that removing never needs memory.
 */
#define EDGE_LEVELS	12

struct edge {
	u64 addr;
	u32 count;		/* ranges over [addr, the next edge's) */
	u32 uses;		/* ranges that begin or end here */
	u32 next[EDGE_LEVELS];	/* by place in ranges.edges; 0 is the end */
};

/* Locks: the caller's, for all of it */
struct ranges {
	struct edge *edges;	/* [0] is the head: below every address, count 0 */
	u32 capacity;
	u32 nr_used;		/* places ever taken */
	u32 free;		/* a list through next[0] */
	u32 nr_runs;		/* stretches of addresses with a count above 0 */
	u32 random;
};

struct gap {
	u64 start, end;		/* inside what was asked for */
	u64 low, high;		/* as far as the count is 0 on either side */
};

int ranges_init(struct ranges *r);
void ranges_free(struct ranges *r);

/* count [start, end) once more; -ENOMEM, and then nothing has changed */
int ranges_add(struct ranges *r, u64 start, u64 end);

/* the reverse of one ranges_add(); false = there was none with these ends */
bool ranges_remove(struct ranges *r, u64 start, u64 end);

/* the first stretch of [start, end) that is not counted; false = there is none */
bool ranges_gap(const struct ranges *r, u64 start, u64 end, struct gap *ret);

/* the first stretch with a count above 0 that begins at from or above */
bool ranges_run(const struct ranges *r, u64 from, u64 *ret_start, u64 *ret_end);

#define UFFD_QUARANTINE		64

/* a discard whose event was read; the caller may still be on its way to make it */
struct quarantined {
	u64 start, end;
	u64 calm;		/* when the caller had left the event behind; 0 = not seen yet */
};

/* what the thread writes: on the page below its stack, which fork neither copies nor protects */
struct uffd_thread {
	u32 reading;		/* an event may be out of the kernel and not in the feed */
	u32 nr_quarantined;	/* written by the thread */
	struct quarantined quarantine[UFFD_QUARANTINE];
};

#define UFFD_STACK_BYTES	(256UL << 10)	/* and room for the program's static TLS */
#define UFFD_MIN_HUGE_SHIFT	16
#define UFFD_MAX_HUGE_SHIFT	34

struct uffd {
	struct invlock il;	/* the mm's; constant, as is all that names no guard */
	struct own_fd uffd;	/* non-blocking; high, so that a hit can trust the number */
	struct own_fd ear;	/* of the thread: a pipe, written to when there is a reason */
	struct own_fd bell;	/* its other end */
	struct own_fd pagemap;	/* /proc/self/pagemap */
	u64 page;
	u64 huge;		/* bit k: there are huge pages of 2^k bytes */
	u32 max_runs;
	bool stop;		/* the thread is to end */
	pthread_t id;
	void *stack;		/* thread and its stack, and three pages to try the map limit */
	size_t stack_bytes;	/* without those three */
	struct uffd_thread *thread;
	pthread_mutex_t lock;	/* guards ranges; never taken by the thread */
	struct ranges ranges;
};

/* CHANGING: the kernel counts a change whose event was not read; GONE: our fd is not ours */
enum uffd_probe { UFFD_CALM, UFFD_CHANGING, UFFD_GONE };
enum uffd_probe uffd_probe(const struct uffd *u);

/* UFFDIO_UNREGISTER; errors mean that it stays watched, which harms nobody */
void uffd_unregister(const struct uffd *u, u64 start, u64 end);

int uffd_watch(struct invlock_mm *mm, u64 start, u64 end);
void uffd_unwatch(struct invlock_mm *mm, u64 start, u64 end);
void uffd_unwatch_all(struct uffd *u);

/* one turn of the thread, which waits for something to do if @wait; false = stop */
bool uffd_turn(struct uffd *u, bool wait);

#endif /* INVLOCK_LIB_MONITOR_UFFD_UFFD_H */
