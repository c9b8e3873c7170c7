// SPDX-License-Identifier: MIT
/* How long does a hit take while another thread maps and unmaps memory that is not registered? */
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "contender.h"

#define BYTES	65536UL

static const unsigned int sizes[] = { 16, 1000, MAX_REGIONS };
#define NR_SIZES	(sizeof(sizes) / sizeof(*sizes))

static bool stop;

static void *unmap_elsewhere(void *arg)
{
	bool through_libc = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		void *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);

		/* UCX sees only calls through libc; the others avoid the cost of its hook */
		if (through_libc)
			munmap(p, BYTES);
		else
			syscall(SYS_munmap, p, BYTES);
	}
	return NULL;
}

static double beside(const struct contender *c, unsigned int size)
{
	bool through_libc = false;
	pthread_t unmapper;
	double ns;

#ifdef HAVE_UCX
	through_libc = c == &ucx;
#endif
	stop = false;
	if (pthread_create(&unmapper, NULL, unmap_elsewhere, through_libc ? &stop : NULL))
		abort();
	ns = contender_hit_ns(c, size, 1);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(unmapper, NULL);
	return ns;
}

int main(int argc, char **argv)
{
	char quiet[40], noisy[40];

	bench_begin("hit_beside", "ns", argc, argv);
	contenders_open();
	for (size_t s = 0; s < NR_SIZES; s++) {
		unsigned int size = BENCH_SIZE(sizes[s], 16 + s);

		snprintf(quiet, sizeof(quiet), "%u regions, quiet", size);
		snprintf(noisy, sizeof(noisy), "%u regions, beside", size);
		contenders_fill(size);
		for (int round = 0; round < bench_rounds; round++) {
			for (int i = 0; contenders[i]; i++) {
				const struct contender *c = contenders[i];

				bench_add(quiet, c->name, contender_hit_ns(c, size, 1));
				bench_add(noisy, c->name, beside(c, size));
			}
		}
		bench_target(noisy, invlock.name, quiet, invlock.name, 1.5);
		bench_target(noisy, page_hash.name, quiet, page_hash.name, 0);
		bench_target(noisy, "UCX", quiet, "UCX", 0);
	}
	contenders_close();
	return bench_end();
}
