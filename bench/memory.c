// SPDX-License-Identifier: MIT
/* How much memory does each of 100,000 cached regions take? */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "contender.h"

/* Return: the bytes of this process that are in memory, whoever allocated them. */
static double resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	if (!f || fscanf(f, "%*u %lu", &pages) != 1)
		abort();
	fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double grow(const struct contender *c, unsigned int nr)
{
	double before;

	for (unsigned int i = 0; i < 16; i++)
		c->hit(region_addr(i), REGION_BYTES);
	before = resident();
	for (unsigned int i = 16; i < nr; i++)
		c->hit(region_addr(i), REGION_BYTES);
	return (resident() - before) / (nr - 16);
}

/* Measure in a new process, so that earlier measurements have not changed its heap. */
static double measure(const struct contender *c, unsigned int nr)
{
	double bytes = 0;
	int fds[2];
	pid_t pid;

	if (pipe(fds))
		abort();
	pid = fork();
	if (!pid) {
		if (!contender_open(c))
			_exit(1);
		bytes = grow(c, nr);
		_exit(write(fds[1], &bytes, sizeof(bytes)) != sizeof(bytes));
	}
	close(fds[1]);
	if (read(fds[0], &bytes, sizeof(bytes)) != sizeof(bytes)) {
		fprintf(stderr, "memory: cannot open the contender \"%s\"\n", c->name);
		exit(1);
	}
	close(fds[0]);
	waitpid(pid, NULL, 0);
	return bytes;
}

int main(int argc, char **argv)
{
	static const char what[] = "100000 regions";
	unsigned int nr = BENCH_SIZE(MAX_REGIONS, 1000);

	bench_begin("memory", "bytes", argc, argv);
	/* the feed does not count, so the simplest monitor will do */
	invlock_monitor = "manual";
	for (int round = 0; round < bench_rounds; round++)
		for (int i = 0; contenders[i]; i++)
			/* contenders without drop() have tables of a fixed size */
			if (contenders[i]->drop)
				bench_add(what, contenders[i]->name, measure(contenders[i], nr));
	bench_limit(what, invlock.name, 96);
	bench_target(what, invlock.name, what, "UCX", 0);
	return bench_end();
}
