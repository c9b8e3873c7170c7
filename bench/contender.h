/* SPDX-License-Identifier: MIT */
/*
 * What can hold registrations and find them again. Nobody registers anything: what is
 * compared is the finding.
 */
#ifndef INVLOCK_BENCH_CONTENDER_H
#define INVLOCK_BENCH_CONTENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct contender {
	const char *name;
	bool (*open)(void);	/* false = not to be had here */
	void (*close)(void);
	uint64_t (*hit)(void *addr, size_t len);	/* get and put; the first one registers */
	void (*drop)(void *addr, size_t len);	/* forget all inside; NULL = cannot */
};

/* the bounds: without a lock, a reference or a check */
extern const struct contender page_hash;
extern const struct contender sorted_array;
extern const struct contender bare_calls;

extern const struct contender invlock;
extern const struct contender ucx;	/* only where UCX is installed */

/* all there are here, the bound first; NULL ends them */
extern const struct contender *const contenders[];

/* how invlock hears of changes: NULL = the best there is */
extern const char *invlock_monitor;

#define REGION_BYTES	4096UL
#define MAX_REGIONS	100000U
#define MORE_REGIONS	1000U	/* room for these behind */

/* where region nr is; regions do not touch, and their memory is never touched */
char *region_addr(unsigned int nr);

/* open one of them, or all, or exit with a sentence */
bool contender_open(const struct contender *c);
void contenders_open(void);
void contenders_close(void);

/* have regions 0 to nr - 1 in all of them */
void contenders_fill(unsigned int nr);

/* nanoseconds of a hit, as a thread sees it: random ones of the first nr_regions */
double contender_hit_ns(const struct contender *c, unsigned int nr_regions, int nr_threads);

#endif /* INVLOCK_BENCH_CONTENDER_H */
