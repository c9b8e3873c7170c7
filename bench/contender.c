// SPDX-License-Identifier: MIT
#include "contender.h"

#include <stdio.h>
#include <sys/mman.h>

#include "bench.h"

#define STRIDE		(2 * REGION_BYTES)

const struct contender *const contenders[] = {
	&page_hash, &sorted_array, &bare_calls, &invlock,
#ifdef HAVE_UCX
	&ucx,
#endif
	NULL
};

static char *memory;
static volatile uint64_t sink;

struct hits {
	const struct contender *contender;
	unsigned int nr_regions;
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
			fprintf(stderr, "bench: cannot open the contender \"%s\"\n", (*c)->name);
			exit(1);
		}
	}
#ifndef HAVE_UCX
	bench_note("UCX (libucx-dev) is not installed, so it is not compared");
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

static void hit_often(void *arg, int thread, unsigned int times)
{
	static _Thread_local uint32_t seed;
	const struct hits *h = arg;
	uint64_t sum = 0;

	if (!seed)
		seed = 7 + thread;
	for (unsigned int i = 0; i < times; i++)
		sum += h->contender->hit(region_addr(bench_random(&seed) % h->nr_regions),
					 REGION_BYTES);
	sink = sum;
}

double contender_hit_ns(const struct contender *c, unsigned int nr_regions, int nr_threads)
{
	return bench_concurrent_ns(nr_threads, hit_often,
				   &(struct hits){ c, nr_regions });
}
