/* SPDX-License-Identifier: MIT */
/*
 * Measures contenders side by side. In each round every contender runs once, one after the other,
 * so that a noisy moment hits all of them. The report has the median and the quartiles of the
 * rounds. If two contenders are compared, it also has the median of their ratios in each round.
 *
 *	bench_begin("hit", "ns", argc, argv);
 *	for (round = 0; round < bench_rounds; round++)
 *		bench_add("16 regions", "invlock", measure());	for each contender
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

/* The number of rounds. It is 1 with --quick, which only shows that the program runs. */
extern int bench_rounds;
extern bool bench_quick;

/* Choose the size of a measurement: a small one with --quick. */
#define BENCH_SIZE(normal, quick)	(bench_quick ? (quick) : (normal))

void bench_begin(const char *name, const char *unit, int argc, char **argv);

/* Add the value of one round: @what is the case, @who is the contender. The names are copied. */
void bench_add(const char *what, const char *who, double value);

/* Report the ratio (what, who) / (base_what, base_who). If @at_most is not 0, it is the target. */
void bench_target(const char *what, const char *who, const char *base_what, const char *base_who,
		  double at_most);

/* Report the value of (what, who) itself, with the target @at_most. */
void bench_limit(const char *what, const char *who, double at_most);

/* Add a sentence that the reader needs: what could not be measured, or how to read the numbers. */
__attribute__((format(printf, 1, 2))) void bench_note(const char *format, ...);

/*
 * Return: the nanoseconds that one operation takes while @nr_threads run body() concurrently. Each
 * call of body() does @times operations; @thread counts from 0. Each thread gets a CPU of its own
 * if there are enough. Only the CPU time of each thread counts, so other programs may run on its
 * CPU, but an operation must never wait.
 */
double bench_concurrent_ns(int nr_threads,
			   void (*body)(void *arg, int thread, unsigned int times), void *arg);

/* Print everything as JSON. Return: the exit code of the program. */
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

/* A cheap random number, the same for every contender. */
static inline uint32_t bench_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

#endif /* INVLOCK_BENCH_H */
