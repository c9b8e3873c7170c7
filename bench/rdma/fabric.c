// SPDX-License-Identifier: MIT
/*
 * Measures libfabric's cache of registrations over Soft RoCE, in a virtual machine: what does a hit
 * cost with the plug-in, with libfabric's own memhooks, and how much is gained over no cache?
 *
 * libfabric chooses its monitor once in a process, so each contender runs in a process of its own,
 * which prints "WHAT VALUE" for each case. With `run.sh -c` a nanosecond is an instruction.
 */
#include <malloc.h>
#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "tests/rdma/fabric_ends.h"

#define BUFFERS		16
#define LEN		65536ul
#define LOOPS		256
/* by then the plug-in's own thread has found that all registrations are good */
#define QUIET_US	300000
/* the first tries fill the cache; of the others the fastest counts: the rest was interrupted */
#define FILL		3
#define TRIES		5
/* with `run.sh -c` each round is like any other */
#define ROUNDS		1

static const size_t sizes[] = { 1024, 32768, 262144, 4194304 };

#define NR_SIZES	(sizeof(sizes) / sizeof(*sizes))

static const struct fabric_contender {
	const char *name;
	const char *monitor;		/* of libfabric; NULL = the plug-in */
	const char *invlock_monitor;
} contenders[] = {
	{ "plug-in, kmod", NULL, "kmod" },
	{ "plug-in, bpf", NULL, "bpf" },
	{ "memhooks", "memhooks", NULL },
	{ "no cache", "disabled", NULL },
};

#define NR_CONTENDERS	(sizeof(contenders) / sizeof(*contenders))

static void say(const char *what, double value)
{
	printf("%s\t%.1f\n", what, value);
}

/* A registration by the program, of memory that is in the cache: the lookup and nothing else. */
static double register_all(struct fid_domain *domain, char *mem, unsigned int loops)
{
	double start = bench_now();

	for (unsigned int i = 0; i < loops; i++) {
		struct fid_mr *mr;

		ends_check(fi_mr_reg(domain, mem + i % BUFFERS * LEN, LEN, FI_SEND | FI_RECV, 0, 0,
				     0, &mr, NULL), "mr_reg");
		fi_close(&mr->fid);
	}
	return (bench_now() - start) / loops;
}

static void measure_registrations(const char *what, struct fid_domain *domain, char *mem)
{
	double least = 0;

	for (int i = 0; i < TRIES; i++) {
		double ns = register_all(domain, mem, LOOPS);

		least = !i || ns < least ? ns : least;
	}
	say(what, least);
}

static void measure_hits(void)
{
	char *elsewhere = mmap(NULL, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *mem = mmap(NULL, BUFFERS * LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	struct fi_info *info = ends_info("verbs", FI_EP_MSG, 7470);
	struct fid_fabric *fabric;
	struct fid_domain *domain;

	ends_check(fi_fabric(info->fabric_attr, &fabric, NULL), "fabric");
	ends_check(fi_domain(fabric, info, &domain, NULL), "domain");
	register_all(domain, mem, FILL * BUFFERS);
	munmap(elsewhere, LEN);
	measure_registrations("cached memory, just after a change elsewhere", domain, mem);
	usleep(QUIET_US);
	measure_registrations("cached memory, while nothing changes", domain, mem);
	fi_close(&domain->fid);
	fi_close(&fabric->fid);
	fi_freeinfo(info);
}

/* There and back. */
static void ping_pong(struct ends *all, char *here, char *there, size_t len)
{
	ends_check(ends_message(all, 0, here, there, len), "ping");
	ends_check(ends_message(all, 1, there, here, len), "pong");
}

static void measure_messages(struct ends *all, size_t len, bool reused)
{
	char *here = malloc(len), *there = malloc(len), what[64];
	double least = 0;

	for (int i = 0; i < TRIES; i++) {
		double start = bench_now(), ns;

		if (!reused) {
			free(there);
			free(here);
			here = malloc(len);
			there = malloc(len);
		}
		ping_pong(all, here, there, len);
		ns = bench_now() - start;
		least = i <= FILL || ns < least ? ns : least;
	}
	free(there);
	free(here);
	snprintf(what, sizeof(what), "%zu KiB, %s", len / 1024, reused ? "reused" :
		 "allocated each time");
	say(what, least);
}

/* The process of one contender. */
static int run(void)
{
	struct ends all;

	/* what is at least this long goes back to the kernel when it is freed */
	mallopt(M_MMAP_THRESHOLD, (int)LEN);
	measure_hits();
	ends_open(&all, 7471);
	for (size_t i = 0; i < NR_SIZES; i++) {
		measure_messages(&all, sizes[i], true);
		if (sizes[i] >= LEN)
			measure_messages(&all, sizes[i], false);
	}
	ends_close(&all);
	return 0;
}

static void choose(const struct fabric_contender *c)
{
	/* the tests have a lower one */
	unsetenv("FI_OFI_RXM_SAR_LIMIT");
	if (c->monitor)
		setenv("FI_MR_CACHE_MONITOR", c->monitor, 1);
	else
		setenv("FI_PROVIDER_PATH", "/usr/lib/invlock/libfabric", 1);
	if (c->invlock_monitor)
		setenv("INVLOCK_MONITOR", c->invlock_monitor, 1);
}

/* Return: whether the process of the contender ended well */
static bool measure(const struct fabric_contender *c)
{
	char what[64];
	int result[2], status;
	double value;
	pid_t child;
	FILE *said;

	if (pipe(result))
		return false;
	child = fork();
	if (!child) {
		choose(c);
		dup2(result[1], STDOUT_FILENO);
		execl("/proc/self/exe", "fabric", "--run", NULL);
		_exit(127);
	}
	close(result[1]);
	said = fdopen(result[0], "r");
	while (fscanf(said, " %63[^\t] %lf", what, &value) == 2)
		bench_add(what, c->name, value);
	fclose(said);
	return waitpid(child, &status, 0) == child && !status;
}

static void compare(const char *what, double at_most)
{
	for (size_t i = 0; i < NR_CONTENDERS; i++)
		if (strcmp(contenders[i].name, "memhooks"))
			bench_target(what, contenders[i].name, what, "memhooks",
				     i ? 0 : at_most);
}

int main(int argc, char **argv)
{
	char what[64];

	if (argc == 2 && !strcmp(argv[1], "--run"))
		return run();
	bench_begin("registrations of libfabric", "ns", argc, argv);
	bench_rounds = BENCH_SIZE(ROUNDS, 1);
	for (int round = 0; round < bench_rounds; round++)
		for (size_t i = 0; i < NR_CONTENDERS; i++)
			if (!measure(&contenders[i]))
				bench_note("%s: the process did not end well", contenders[i].name);
	compare("cached memory, while nothing changes", 1.05);
	compare("cached memory, just after a change elsewhere", 0);
	for (size_t i = 0; i < NR_SIZES; i++) {
		snprintf(what, sizeof(what), "%zu KiB, reused", sizes[i] / 1024);
		compare(what, 1.05);
		snprintf(what, sizeof(what), "%zu KiB, allocated each time", sizes[i] / 1024);
		if (sizes[i] >= LEN)
			compare(what, 0);
	}
	bench_note("measured in a virtual machine without hardware support, so only ratios count");
	return bench_end();
}
