/* SPDX-License-Identifier: MIT */
/*
 * Counts the cache lines that move between simulated CPUs while these make hits.
 *
 * lib/cache/get.c and the files that it needs are compiled with -fsanitize=thread, but linked
 * without the library of that sanitizer. The compiler inserts a call for each access to memory, and
 * lines_run.c provides the functions. Each simulated CPU has a thread record of its own. The CPUs
 * make their hits one after the other on one real thread, so the accesses are the same in every run
 * and on every machine.
 */
#ifndef INVLOCK_BENCH_LINES_RUN_H
#define INVLOCK_BENCH_LINES_RUN_H

#include <stdbool.h>
#include <stdint.h>

#define LINES_CPUS	64
#define LINES_REGIONS	16

/* What each hit does in addition, as other caches do. */
enum lines_extra {
	LINES_NOTHING,
	LINES_COUNT,	/* a reference count in the region, up in get and down in put */
	LINES_LOCK,	/* one lock, around get and around put */
};

/**
 * struct lines_setup - what to run
 * @nr_cpus: 1 to LINES_CPUS. In each round, all CPUs get the same region, one after the other, and
 *	then put it
 * @rounds: how many rounds to count, after a warm-up of two hits of each region
 * @events: before each round, another CPU invalidates a range in another stripe, whose word lies in
 *	another line
 * @unreferenced: begin as if eviction had just cleared the "referenced" mark of all regions
 * @extra: what each hit does in addition
 */
struct lines_setup {
	int nr_cpus;
	int rounds;
	bool events;
	bool unreferenced;
	enum lines_extra extra;
};

/**
 * struct lines_count - the accesses to memory
 * @accesses: reads and writes of lines, except for those of the stack
 * @transfers: reads of a line that the CPU did not have, and writes to a line that another CPU had.
 *	A CPU keeps a line until another CPU writes to it
 * @shared_writes: writes to a line that another CPU had, or has accessed since the warm-up
 */
struct lines_count {
	uint64_t accesses;
	uint64_t transfers;
	uint64_t shared_writes;
};

/*
 * Run. @hits counts what all gets and puts did, and @events what all events did. Return: 0, or
 * -errno and a sentence on stderr.
 */
int lines_run(const struct lines_setup *setup, struct lines_count *hits,
	      struct lines_count *events);

#endif /* INVLOCK_BENCH_LINES_RUN_H */
