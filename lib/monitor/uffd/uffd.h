/* SPDX-License-Identifier: MIT */
/*
 * The userfaultfd monitor, inside.
 *
 *	uffd.c		open, close, and what readers ask
 *	watch.c		watch and unwatch
 *	thread.c	the thread that reads the kernel's events
 *	ranges.[ch]	which memory is watched, and by how many
 */
#ifndef INVLOCK_LIB_MONITOR_UFFD_UFFD_H
#define INVLOCK_LIB_MONITOR_UFFD_UFFD_H

#include <linux/userfaultfd.h>
#include <pthread.h>

#include "lib/mm.h"
#include "lib/own_fd.h"
#include "ranges.h"

#define UFFD_QUARANTINE		64

/* a discard whose event was read; the caller may still be on its way to make it */
struct quarantined {
	u64 start, end;
	u64 calm;		/* when the caller had left the event behind; 0 = not seen yet */
};

/*
 * What the thread writes. It lies below the thread's stack, in memory that fork neither copies nor
 * write-protects.
 */
struct uffd_thread {
	u32 reading;		/* an event may be out of the kernel and not in the feed */
	u32 nr_quarantined;	/* written by the thread */
	struct quarantined quarantine[UFFD_QUARANTINE];
};

#define UFFD_STACK_BYTES	(256UL << 10)	/* and room for the program's static TLS */

struct uffd {
	struct invlock il;	/* the mm's; like every member without a guard, constant */
	struct own_fd uffd;	/* non-blocking; high, so that a hit can trust the number */
	struct own_fd ear;	/* the thread's end of a pipe: what comes wakes the thread */
	struct own_fd bell;	/* the other end of that pipe */
	struct own_fd pagemap;	/* /proc/self/pagemap */
	u64 page;
	u64 top;		/* the end of the addresses that a program can have */
	u32 max_runs;
	bool stop;		/* the thread is to end */
	pthread_t id;
	void *stack;		/* thread and its stack */
	size_t stack_bytes;
	struct uffd_thread *thread;
	pthread_mutex_t lock;	/* guards ranges; never taken by the thread */
	struct ranges ranges;
};

/*
 * CHANGING: the kernel counts a change whose event was not read. GONE: the descriptor is no longer
 * our userfaultfd.
 */
enum uffd_probe { UFFD_CALM, UFFD_CHANGING, UFFD_GONE };
enum uffd_probe uffd_probe(const struct uffd *u);

int uffd_watch(struct invlock_mm *mm, u64 start, u64 end);
void uffd_unwatch(struct invlock_mm *mm, u64 start, u64 end);
void uffd_unwatch_all(struct uffd *u);

/* give back the mappings of the range in which nothing is watched */
void uffd_release(struct invlock_mm *mm, u64 start, u64 end);

/* u->top */
u64 uffd_top(const struct uffd *u);

/* one turn of the thread, which waits for something to do if @wait; false = stop */
bool uffd_turn(struct uffd *u, bool wait);

#endif /* INVLOCK_LIB_MONITOR_UFFD_UFFD_H */
