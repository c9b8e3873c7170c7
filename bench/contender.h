/* SPDX-License-Identifier: MIT */
/*
 * A contender keeps registrations and finds them again. Nothing is really registered: only the
 * lookups are compared.
 */
#ifndef INVLOCK_BENCH_CONTENDER_H
#define INVLOCK_BENCH_CONTENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct contender {
	const char *name;
	bool (*open)(void);	/* Return: false if it cannot be opened here */
	void (*close)(void);
	uint64_t (*hit)(void *addr, size_t len);	/* get and put; the first get registers */
	void (*drop)(void *addr, size_t len);	/* forget all regions inside; may be NULL */
};

/* These have no lock, reference or check. They show how fast a lookup could be at best. */
extern const struct contender page_hash;
extern const struct contender sorted_array;
extern const struct contender bare_calls;

extern const struct contender invlock;
extern const struct contender ucx;	/* exists only if UCX is installed */

/* All contenders of this build; the list ends with NULL. */
extern const struct contender *const contenders[];

/* The monitor that invlock uses; NULL = the default. */
extern const char *invlock_monitor;

#define REGION_BYTES	4096UL
#define MAX_REGIONS	100000U
#define MORE_REGIONS	1000U	/* more regions, after those */

/* Return: the address of a region. Regions are not adjacent, and nobody accesses their memory. */
char *region_addr(unsigned int nr);

/* Return: false if this contender cannot be opened. */
bool contender_open(const struct contender *c);
/* Open all contenders, or exit with a sentence. */
void contenders_open(void);
void contenders_close(void);

/* Put the regions 0 to @nr - 1 into all contenders. */
void contenders_fill(unsigned int nr);

/* Return: the nanoseconds that a thread spends on a hit of a random one of the @nr_regions. */
double contender_hit_ns(const struct contender *c, unsigned int nr_regions, int nr_threads);

#endif /* INVLOCK_BENCH_CONTENDER_H */
