/* SPDX-License-Identifier: MIT */
/*
 * Hits on simulated CPUs, and the cache lines that move between them.
 *
 * lib/cache/get.c and what it stands on are compiled with -fsanitize=thread but linked without its
 * library: the calls that the compiler adds for each access to memory come to lines_run.c. Each
 * CPU is a thread record of its own, and they make their hits in turn, on one real thread: the
 * same accesses in every run, on every machine.
 */
#ifndef INVLOCK_BENCH_LINES_RUN_H
#define INVLOCK_BENCH_LINES_RUN_H

#include <stdbool.h>
#include <stdint.h>

#define LINES_CPUS	64
#define LINES_REGIONS	16

/* what each hit does besides, as other caches do */
enum lines_extra {
	LINES_NOTHING,
	LINES_COUNT,	/* a reference count in the region, up in get and down in put */
	LINES_LOCK,	/* one lock, around get and around put */
};

/**
 * struct lines_setup - what is run
 * @nr_cpus: 1 to LINES_CPUS; each makes one hit a round, all of the same region, and puts it
 *	when all have it
 * @rounds: after a warm-up of two hits of each region
 * @events: before each round another CPU invalidates a range elsewhere: in another stripe, whose
 *	word is in another line
 * @unreferenced: begin as if the clock of evictions had just passed all regions
 * @extra: see there
 */
struct lines_setup {
	int nr_cpus;
	int rounds;
	bool events;
	bool unreferenced;
	enum lines_extra extra;
};

/**
 * struct lines_count - what was done to memory
 * @accesses: reads and writes of lines, the thread's stack left out
 * @transfers: reads of a line that only others had, and writes to a line that others had too;
 *	what was read once stays until another CPU writes to it
 * @shared_writes: writes to a line that another CPU had, or has touched since the warm-up
 */
struct lines_count {
	uint64_t accesses;
	uint64_t transfers;
	uint64_t shared_writes;
};

/* Return: 0, with @hits of all gets and puts and @events of all events; or why not, on stderr */
int lines_run(const struct lines_setup *setup, struct lines_count *hits,
	      struct lines_count *events);

#endif /* INVLOCK_BENCH_LINES_RUN_H */
