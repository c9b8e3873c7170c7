// SPDX-License-Identifier: MIT
/* How long does a hit (get and put) take, for several numbers of regions and threads? */
#include <stdio.h>

#include "bench.h"
#include "contender.h"

static const unsigned int sizes[] = { 16, 1000, MAX_REGIONS };
#define NR_SIZES	(sizeof(sizes) / sizeof(*sizes))

static const char *case_of(unsigned int size, int nr_threads)
{
	static char names[4][40];
	static unsigned int next;
	char *name = names[next++ % 4];

	snprintf(name, sizeof(names[0]), "%u regions, %d thread%s", size, nr_threads,
		 nr_threads > 1 ? "s" : "");
	return name;
}

static void targets_of(unsigned int size)
{
	const char *one = case_of(size, 1), *two = case_of(size, 2);

	bench_target(one, invlock.name, one, page_hash.name, 2);
	bench_target(one, invlock.name, one, sorted_array.name, 0);
	bench_target(one, invlock.name, one, bare_calls.name, 0);
	bench_target(one, invlock.name, one, "UCX", 1 / 5.0);
	bench_target(two, invlock.name, one, invlock.name, 1.3);
	bench_target(two, invlock.name, two, "UCX", 1 / 15.0);
	/* these show how much of the difference is left for safety */
	bench_target(one, bare_calls.name, one, page_hash.name, 0);
	bench_target(one, bare_calls.name, one, "UCX", 0);
}

int main(int argc, char **argv)
{
	bench_begin("hit", "ns", argc, argv);
	contenders_open();
	for (size_t s = 0; s < NR_SIZES; s++) {
		unsigned int size = BENCH_SIZE(sizes[s], 16 + s);

		contenders_fill(size);
		for (int round = 0; round < bench_rounds; round++)
			for (int nr_threads = 1; nr_threads <= 2; nr_threads++)
				for (int i = 0; contenders[i]; i++)
					bench_add(case_of(size, nr_threads), contenders[i]->name,
						  contender_hit_ns(contenders[i], size,
								   nr_threads));
		targets_of(size);
	}
	contenders_close();
	return bench_end();
}
