// SPDX-License-Identifier: MIT
/* What does a hit cost, get and put? By regions and threads, and beside a thread that unmaps. */
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

#include "bench.h"
#include "hit.h"

#define HITS		200000
#define STRIDE		8192UL
#define MAX_REGIONS	100000
#define MAX_THREADS	2

static const struct contender *const contenders[] = {
	&page_hash, &invlock,
#ifdef HAVE_UCX
	&ucx,
#endif
};
#define NR (sizeof(contenders) / sizeof(*contenders))

static char *memory;
static unsigned int nr_regions;
static volatile uint64_t sink;
static bool stop;

struct run {
	const struct contender *contender;
	uint32_t seed;
	double ns;
};

static void *run_hits(void *arg)
{
	struct run *r = arg;
	uint64_t sum = 0;
	double begin = bench_now();

	for (int i = 0; i < HITS; i++)
		sum += r->contender->hit(memory + bench_random(&r->seed) % nr_regions * STRIDE,
					 4096);
	r->ns = (bench_now() - begin) / HITS;
	sink = sum;
	return NULL;
}

static double measure(const struct contender *c, int nr_threads)
{
	struct run runs[MAX_THREADS];
	pthread_t threads[MAX_THREADS];
	double ns = 0;

	for (int i = 0; i < nr_threads; i++) {
		runs[i] = (struct run){ .contender = c, .seed = 7 + i };
		if (pthread_create(&threads[i], NULL, run_hits, &runs[i]))
			abort();
	}
	for (int i = 0; i < nr_threads; i++) {
		pthread_join(threads[i], NULL);
		ns += runs[i].ns / nr_threads;
	}
	return ns;
}

/* memory that nobody has registered comes and goes */
static void *unmap_elsewhere(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		char *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);

		munmap(p, 65536);
	}
	return NULL;
}

static void table(int nr_threads, bool beside_unmaps)
{
	double ns[NR][BENCH_ROUNDS], hash;
	pthread_t unmapper;

	stop = false;
	if (beside_unmaps && pthread_create(&unmapper, NULL, unmap_elsewhere, NULL))
		abort();
	for (int round = 0; round < BENCH_ROUNDS; round++)
		for (size_t i = 0; i < NR; i++)
			ns[i][round] = measure(contenders[i], nr_threads);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	if (beside_unmaps)
		pthread_join(unmapper, NULL);
	hash = bench_median(ns[0], BENCH_ROUNDS);
	for (size_t i = 0; i < NR; i++) {
		double median = bench_median(ns[i], BENCH_ROUNDS);

		printf("%7u  %d%s  %-20s %7.1f  %6.1f..%-7.1f %6.2f\n", nr_regions, nr_threads,
		       beside_unmaps ? "+" : " ", contenders[i]->name, median, ns[i][0],
		       ns[i][BENCH_ROUNDS - 1], median / hash);
	}
}

int main(void)
{
	static const unsigned int sizes[] = { 16, 1000, MAX_REGIONS };

	memory = mmap(NULL, MAX_REGIONS * STRIDE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return perror("hit: mmap"), 1;
	for (size_t i = 0; i < NR; i++)
		if (!contenders[i]->open())
			return fprintf(stderr, "hit: %s cannot be opened\n", contenders[i]->name),
			       1;
	printf("regions  threads (+: beside one that maps and unmaps)  ns  min..max  x hash\n");
	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		nr_regions = sizes[s];
		for (size_t i = 0; i < NR; i++)
			for (unsigned int n = 0; n < nr_regions; n++)
				contenders[i]->hit(memory + n * STRIDE, 4096);
		table(1, false);
		table(2, false);
		table(1, true);
	}
#ifndef HAVE_UCX
	printf("UCX is not installed (libucx-dev): not compared\n");
#endif
	for (size_t i = 0; i < NR; i++)
		contenders[i]->close();
	return 0;
}
