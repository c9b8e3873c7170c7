// SPDX-License-Identifier: MIT
#include "contender.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

#include "bench.h"

#define STRIDE		(2 * REGION_BYTES)
#define MAX_THREADS	2

const struct contender *const contenders[] = {
	&page_hash, &sorted_array, &bare_calls, &invlock,
#ifdef HAVE_UCX
	&ucx,
#endif
	NULL
};

static char *memory;
static volatile uint64_t sink;

struct run {
	const struct contender *contender;
	unsigned int nr_regions, nr_hits;
	uint32_t seed;
	pthread_barrier_t *begin;
	double ns;
};

char *region_addr(unsigned int nr)
{
	return memory + nr * STRIDE;
}

static void map_regions(void)
{
	if (memory)
		return;
	memory = mmap(NULL, (MAX_REGIONS + MORE_REGIONS) * STRIDE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		perror("bench: mmap");
		exit(1);
	}
}

bool contender_open(const struct contender *c)
{
	map_regions();
	return c->open();
}

void contenders_open(void)
{
	for (const struct contender *const *c = contenders; *c; c++) {
		if (!contender_open(*c)) {
			fprintf(stderr, "bench: %s cannot be opened\n", (*c)->name);
			exit(1);
		}
	}
#ifndef HAVE_UCX
	bench_note("UCX is not installed (libucx-dev): not compared");
#endif
}

void contenders_close(void)
{
	for (const struct contender *const *c = contenders; *c; c++)
		(*c)->close();
}

void contenders_fill(unsigned int nr)
{
	for (const struct contender *const *c = contenders; *c; c++)
		for (unsigned int i = 0; i < nr; i++)
			(*c)->hit(region_addr(i), REGION_BYTES);
}

static void *run_hits(void *arg)
{
	struct run *r = arg;
	uint64_t sum = 0;
	double begin;

	pthread_barrier_wait(r->begin);
	/* of the thread's own time: a hit never waits, and others may be on this CPU */
	begin = bench_clock(CLOCK_THREAD_CPUTIME_ID);
	for (unsigned int i = 0; i < r->nr_hits; i++)
		sum += r->contender->hit(region_addr(bench_random(&r->seed) % r->nr_regions),
					 REGION_BYTES);
	r->ns = (bench_clock(CLOCK_THREAD_CPUTIME_ID) - begin) / r->nr_hits;
	sink = sum;
	return NULL;
}

double contender_hit_ns(const struct contender *c, unsigned int nr_regions, int nr_threads)
{
	struct run runs[MAX_THREADS];
	pthread_t threads[MAX_THREADS];
	pthread_barrier_t begin;
	double ns = 0;

	pthread_barrier_init(&begin, NULL, nr_threads);
	for (int i = 0; i < nr_threads; i++) {
		runs[i] = (struct run){
			.contender = c,
			.nr_regions = nr_regions,
			.nr_hits = BENCH_SIZE(400000, 1000),
			.seed = 7 + i,
			.begin = &begin,
		};
		if (pthread_create(&threads[i], NULL, run_hits, &runs[i]))
			abort();
	}
	for (int i = 0; i < nr_threads; i++) {
		pthread_join(threads[i], NULL);
		ns += runs[i].ns / nr_threads;
	}
	pthread_barrier_destroy(&begin);
	return ns;
}
