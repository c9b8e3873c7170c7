/* SPDX-License-Identifier: MIT */
/* What can hold registrations and find them again: the contenders of bench/hit.c. */
#ifndef INVLOCK_BENCH_HIT_H
#define INVLOCK_BENCH_HIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct contender {
	const char *name;
	bool (*open)(void);	/* false = not to be had here */
	void (*close)(void);
	uint64_t (*hit)(void *addr, size_t len);	/* get and put */
};

/* the bound: a hash of pages, without a lock, a reference or a check */
extern const struct contender page_hash;
extern const struct contender invlock;
extern const struct contender ucx;	/* only where UCX is installed */

#endif /* INVLOCK_BENCH_HIT_H */
