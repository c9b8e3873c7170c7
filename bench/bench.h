/* SPDX-License-Identifier: MIT */
/*
 * Measuring side by side: every contender runs in each round, in turn, so that a noisy
 * moment hits all of them; what is reported is the median of the rounds and the quartiles,
 * and for two contenders the median of the rounds' ratios.
 *
 *	bench_begin("hit", "ns", argc, argv);
 *	for (round = 0; round < bench_rounds; round++)
 *		bench_add("16 regions", "invlock", measure());	each round, each contender
 *	bench_target("16 regions", "invlock", "16 regions", "page hash", 2.0);
 *	return bench_end();		prints JSON; bench/report.py makes tables of it
 */
#ifndef INVLOCK_BENCH_H
#define INVLOCK_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define BENCH_ROUNDS	11

/* how often everything is measured: 1 with --quick, which only shows that it runs */
extern int bench_rounds;
extern bool bench_quick;

/* what a number is measured with: much less of it with --quick */
#define BENCH_SIZE(normal, quick)	(bench_quick ? (quick) : (normal))

void bench_begin(const char *name, const char *unit, int argc, char **argv);

/* one more round of a contender in a case; the names are copied */
void bench_add(const char *what, const char *who, double value);

/* report (what, who) / (base_what, base_who), round by round; at_most 0 is no target */
void bench_target(const char *what, const char *who, const char *base_what, const char *base_who,
		  double at_most);

/* the value itself is the target */
void bench_limit(const char *what, const char *who, double at_most);

/* something could not be measured here, or has to be known to read the numbers */
__attribute__((format(printf, 1, 2))) void bench_note(const char *format, ...);

/*
 * What does one of many take when nr_threads do the like at once? body() does so many each time it
 * is called; thread counts from 0. Each thread has a CPU to itself where there are enough. It is
 * each one's own time that counts, others may be on its CPU: for what never waits. Nanoseconds.
 */
double bench_at_once(int nr_threads, void (*body)(void *arg, int thread, unsigned int times),
		     void *arg);

/* print everything as JSON; the program's exit code */
int bench_end(void);

static inline double bench_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline double bench_now(void)
{
	return bench_clock(CLOCK_MONOTONIC);
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
