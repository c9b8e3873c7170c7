// SPDX-License-Identifier: MIT
/*
 * What does the thread that unmaps pay when k cached regions are hit?
 *
 * The same 781 MiB of untouched memory are unmapped each time: only what is registered in
 * them differs.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "contender.h"

static const unsigned int sizes[] = { 0, 1, 100, 10000, MAX_REGIONS };
#define NR_SIZES	(sizeof(sizes) / sizeof(*sizes))

static double unmap_all(const struct contender *c)
{
	char *start = region_addr(0);
	size_t bytes = region_addr(MAX_REGIONS) - start;
	double begin = bench_now();

	/* UCX hears what goes through libc; the others need not pay for its hook */
	if (c == &invlock)
		syscall(SYS_munmap, start, bytes);
	else
		munmap(start, bytes);
	begin = bench_now() - begin;
	if (mmap(start, bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != start)
		abort();
	return begin;
}

static double measure(const struct contender *c, unsigned int nr_hit)
{
	/* the median of a few: one call is short */
	double ns[9];
	int nr = BENCH_SIZE(9, 1);

	for (int i = 0; i < nr; i++) {
		for (unsigned int r = 0; r < nr_hit; r++)
			c->hit(region_addr(r), REGION_BYTES);
		ns[i] = unmap_all(c);
	}
	return bench_median(ns, nr);
}

int main(int argc, char **argv)
{
	char what[40];

	bench_begin("invalidate", "ns", argc, argv);
	contenders_open();
	for (int round = 0; round < bench_rounds; round++) {
		for (size_t s = 0; s < NR_SIZES; s++) {
			unsigned int nr_hit = BENCH_SIZE(sizes[s], (unsigned int)s);

			snprintf(what, sizeof(what), "%u regions hit", nr_hit);
			for (int i = 0; contenders[i]; i++)
				if (contenders[i]->drop)
					bench_add(what, contenders[i]->name,
						  measure(contenders[i], nr_hit));
		}
	}
	if (!bench_quick) {
		static const char most[] = "100000 regions hit", none[] = "0 regions hit";

		bench_target(most, invlock.name, none, invlock.name, 1.25);
		bench_target(most, "UCX", none, "UCX", 0);
	}
	contenders_close();
	return bench_end();
}
