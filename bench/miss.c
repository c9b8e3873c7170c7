// SPDX-License-Identifier: MIT
/* How long does it take to add a region to 100,000 others (miss and insert), and to drop it? */
#include "bench.h"
#include "contender.h"

#define NR_NEW	MORE_REGIONS

static double one_by_one(const struct contender *c, unsigned int nr)
{
	double begin = bench_now();

	for (unsigned int i = 0; i < nr; i++) {
		c->hit(region_addr(MAX_REGIONS + i), REGION_BYTES);
		c->drop(region_addr(MAX_REGIONS + i), REGION_BYTES);
	}
	return (bench_now() - begin) / nr;
}

/* Drop many regions at once, as if a program freed a large piece of memory with many buffers. */
static double all_at_once(const struct contender *c, unsigned int nr)
{
	double begin = bench_now();

	for (unsigned int i = 0; i < nr; i++)
		c->hit(region_addr(MAX_REGIONS + i), REGION_BYTES);
	c->drop(region_addr(MAX_REGIONS), region_addr(MAX_REGIONS + nr) - region_addr(MAX_REGIONS));
	return (bench_now() - begin) / nr;
}

int main(int argc, char **argv)
{
	static const char one[] = "dropped one by one", all[] = "dropped by 1,000";
	unsigned int nr = BENCH_SIZE(NR_NEW, 100);

	bench_begin("miss", "ns", argc, argv);
	contenders_open();
	contenders_fill(BENCH_SIZE(MAX_REGIONS, 1000));
	for (int round = 0; round < bench_rounds; round++) {
		for (int i = 0; contenders[i]; i++) {
			const struct contender *c = contenders[i];

			if (!c->drop)
				continue;
			bench_add(one, c->name, one_by_one(c, nr));
			bench_add(all, c->name, all_at_once(c, nr));
		}
	}
	bench_target(one, invlock.name, one, "UCX", 1);
	bench_target(all, invlock.name, all, "UCX", 1);
	contenders_close();
	return bench_end();
}
