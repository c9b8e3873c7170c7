// SPDX-License-Identifier: MIT
/*
 * How much longer does munmap() take if k cached regions lie in the memory?
 *
 * Each time, the same 781 MiB of untouched memory are unmapped. Before that, k regions were looked
 * up in that memory or elsewhere, so only the place of the registrations differs.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "contender.h"
#include "tests/page.h"

static const unsigned int sizes[] = { 1, 100, 10000, MAX_REGIONS };
#define NR_SIZES	(sizeof(sizes) / sizeof(*sizes))

/* UCX sees only calls through libc; invlock avoids the cost of its hook. */
static void unmap(const struct contender *c, void *start, size_t bytes)
{
	if (c == &invlock)
		syscall(SYS_munmap, start, bytes);
	else
		munmap(start, bytes);
}

static char *target;

static double unmap_target(const struct contender *c)
{
	size_t bytes = region_addr(MAX_REGIONS) - region_addr(0);
	double begin;

	/* warm up: the lookups have driven munmap()'s code and data out of the CPU's caches */
	for (int i = 0; i < 10; i++)
		unmap(c, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), PAGE);
	begin = bench_now();
	unmap(c, target, bytes);
	begin = bench_now() - begin;
	if (mmap(target, bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != target)
		abort();
	return begin;
}

/* @base: the memory in which the regions are registered */
static double measure(const struct contender *c, unsigned int nr, char *base)
{
	/* one call is short, so take the median of a few */
	double ns[9];
	int nr_calls = BENCH_SIZE(9, 1);

	for (int i = 0; i < nr_calls; i++) {
		for (unsigned int r = 0; r < nr; r++)
			c->hit(base + (region_addr(r) - region_addr(0)), REGION_BYTES);
		ns[i] = unmap_target(c);
		/* drop these, too, so that the next lookups miss in both cases */
		if (base != target)
			c->drop(base, region_addr(MAX_REGIONS) - region_addr(0));
	}
	return bench_median(ns, nr_calls);
}

int main(int argc, char **argv)
{
	char hit[40], spared[40];

	bench_begin("invalidate", "ns", argc, argv);
	contenders_open();
	target = mmap(NULL, region_addr(MAX_REGIONS) - region_addr(0), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (target == MAP_FAILED)
		abort();
	for (size_t s = 0; s < NR_SIZES; s++) {
		unsigned int nr = BENCH_SIZE(sizes[s], (unsigned int)s + 1);

		snprintf(hit, sizeof(hit), "%u regions hit", nr);
		snprintf(spared, sizeof(spared), "%u regions spared", nr);
		for (int round = 0; round < bench_rounds; round++) {
			for (int i = 0; contenders[i]; i++) {
				const struct contender *c = contenders[i];

				if (!c->drop)
					continue;
				bench_add(spared, c->name, measure(c, nr, region_addr(0)));
				bench_add(hit, c->name, measure(c, nr, target));
			}
		}
		bench_target(hit, invlock.name, spared, invlock.name, 1.25);
		bench_target(hit, "UCX", spared, "UCX", 0);
	}
	contenders_close();
	return bench_end();
}
