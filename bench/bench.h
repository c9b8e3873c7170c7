/* SPDX-License-Identifier: MIT */
/*
 * Measuring side by side: every contender runs in each round, in turn, so that a noisy
 * moment hits all of them; what is reported is the median of the rounds.
 */
#ifndef INVLOCK_BENCH_H
#define INVLOCK_BENCH_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define BENCH_ROUNDS	11

static inline double bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline int bench_order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static inline double bench_median(double *values, int nr)
{
	qsort(values, nr, sizeof(*values), bench_order);
	return values[nr / 2];
}

/* cheap, and the same for every contender */
static inline uint32_t bench_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

#endif /* INVLOCK_BENCH_H */
