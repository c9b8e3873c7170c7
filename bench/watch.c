// SPDX-License-Identifier: MIT
/*
 * How much does the BPF monitor slow down the program that it watches, and every other program?
 *
 * This is measured for several numbers of processes that are watched at the same time. Each round
 * measures without a monitor ("bare"), watched and not watched, one after the other, because the
 * load of the machine changes all the time.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "no_op.h"
#include "tests/bpf/nothing.h"
#ifdef HAVE_UCX
#include "contender.h"
#include "tests/page.h"
#endif

#define BLOCK		512
#define NR_REGIONS	100000U
#define MAX_USERS	8

/* A measurement takes the median of this many blocks of calls. */
#define MAX_BLOCKS	15

static char *regions, *discarded;

/* CPU time of this thread, so that other threads on this CPU do not count. */
static double cpu_now(void)
{
	return bench_clock(CLOCK_THREAD_CPUTIME_ID);
}

static double call_nothing(void)
{
	double begin = cpu_now();

	for (int i = 0; i < BLOCK; i++)
		syscall(SYS_getppid);
	return cpu_now() - begin;
}

/* The monitor sees both of these calls. */
static double call_map_and_unmap(void)
{
	double begin = cpu_now();

	for (int i = 0; i < BLOCK; i++)
		munmap(mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0), 16 * PAGE);
	return cpu_now() - begin;
}

/* Unmap pages that were used, one page in each call. */
static double call_munmap(void)
{
	char *block = mmap(NULL, BLOCK * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	double begin;

	madvise(block, BLOCK * PAGE, MADV_NOHUGEPAGE);
	memset(block, 1, BLOCK * PAGE);
	begin = cpu_now();
	for (int i = 0; i < BLOCK; i++)
		munmap(block + i * PAGE, PAGE);
	return cpu_now() - begin;
}

static double discard(void)
{
	double begin = cpu_now();

	for (int i = 0; i < BLOCK; i++)
		madvise(discarded + i * PAGE, PAGE, MADV_DONTNEED);
	return cpu_now() - begin;
}

static double call_discard(void)
{
	memset(discarded, 1, BLOCK * PAGE);
	return discard();
}

static const struct {
	const char *name;
	double (*block)(void);
	double at_most;		/* watched / bare */
} calls[] = {
	{ "getppid", call_nothing, 0 },
	{ "mmap + munmap, 64 KiB", call_map_and_unmap, 1.25 },
	{ "munmap, used page", call_munmap, 1.25 },
	{ "MADV_DONTNEED, untouched", discard, 1.5 },
	{ "MADV_DONTNEED, used page", call_discard, 1.5 },
};
#define NR_CALLS (sizeof(calls) / sizeof(*calls))

/* The nanoseconds of one call of each kind. The kinds take turns, block by block. */
struct sample {
	double ns[NR_CALLS];
};

static struct sample measure(void)
{
	double ns[NR_CALLS][MAX_BLOCKS];
	int blocks = BENCH_SIZE(MAX_BLOCKS, 1);
	struct sample s;

	for (int i = 0; i < blocks; i++)
		for (size_t c = 0; c < NR_CALLS; c++)
			ns[c][i] = calls[c].block() / BLOCK;
	for (size_t c = 0; c < NR_CALLS; c++) {
		qsort(ns[c], blocks, sizeof(**ns), bench_order);
		s.ns[c] = ns[c][blocks / 2];
	}
	return s;
}

static const char *case_of(size_t call, const char *more)
{
	static char name[64];

	snprintf(name, sizeof(name), "%s, %s", calls[call].name, more);
	return name;
}

static void add(const char *more, const char *who, const struct sample *s)
{
	for (size_t c = 0; c < NR_CALLS; c++)
		bench_add(case_of(c, more), who, s->ns[c]);
}

/* Add how many nanoseconds longer each call takes than without a monitor. */
static void add_difference(const char *more, const char *who, const struct sample *s,
			   const struct sample *bare)
{
	struct sample d;

	for (size_t c = 0; c < NR_CALLS; c++)
		d.ns[c] = s->ns[c] - bare->ns[c];
	add(more, who, &d);
}

static struct invlock_mm *watch(void)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "bpf" };
	struct invlock_mm *mm;
	struct invlock_why why;

	if (!invlock_mm_open(&o, &mm, &why))
		return mm;
	fprintf(stderr, "watch: %s\n", why.text);
	exit(1);
}

/* Another process, which opens and closes the monitor when it is told to. */
struct other_user {
	pid_t pid;
	int to, from;
};

static struct other_user others[MAX_USERS];

static void obey(int in, int out)
{
	struct invlock_mm *mm = NULL;
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(in, &c, 1) == 1) {
		if (mm)
			invlock_mm_close(mm);
		mm = mm ? NULL : watch();
		if (write(out, &c, 1) != 1)
			break;
	}
	_exit(0);
}

static void others_start(void)
{
	for (int i = 0; i < MAX_USERS; i++) {
		int in[2], out[2];

		if (pipe(in) || pipe(out))
			exit(1);
		others[i].pid = fork();
		if (!others[i].pid)
			obey(in[0], out[1]);
		others[i].to = in[1];
		others[i].from = out[0];
		close(in[0]);
		close(out[1]);
	}
}

static void others_end(void)
{
	for (int i = 0; i < MAX_USERS; i++) {
		kill(others[i].pid, SIGKILL);
		waitpid(others[i].pid, NULL, 0);
	}
}

/* Let the processes from @first to @nr - 1 open the monitor, or close it if it is open. */
static void others_toggle(int first, int nr)
{
	for (int i = first; i < nr; i++) {
		char c = 0;

		if (write(others[i].to, &c, 1) != 1 || read(others[i].from, &c, 1) != 1) {
			fprintf(stderr, "watch: another process has ended\n");
			exit(1);
		}
	}
}

static void round_of_users(int nr)
{
	struct sample bare = measure(), watched, other;
	struct invlock_mm *mm = watch();
	char more[20];

	snprintf(more, sizeof(more), "%d user%s", nr, nr > 1 ? "s" : "");
	others_toggle(1, nr);
	watched = measure();
	others_toggle(0, 1);
	invlock_mm_close(mm);
	other = measure();
	others_toggle(0, nr);
	add(more, "bare", &bare);
	add(more, "watched", &watched);
	add(more, "not watched", &other);
	add_difference(more, "not watched: more by", &other, &bare);
}

static void round_of_regions(void)
{
	struct invlock_cache_options o = NO_OP_OPTIONS;
	unsigned int nr = BENCH_SIZE(NR_REGIONS, 100);
	struct sample bare = measure(), watched;
	struct invlock_mm *mm = watch();
	struct invlock_cache *cache;
	struct invlock_why why;

	if (invlock_cache_open(mm, &o, &cache, &why)) {
		fprintf(stderr, "watch: %s\n", why.text);
		exit(1);
	}
	no_op_fill(cache, regions, nr);
	watched = measure();
	invlock_cache_close(cache);
	invlock_mm_close(mm);
	add("100k regions", "bare", &bare);
	add("100k regions", "watched", &watched);
}

/* Empty programs at the same two tracepoints show the least that any program there can cost. */
static void round_of_nothing(void)
{
	struct sample bare = measure(), nothing;
	int enter = attach_nothing_to_tracepoint("sys_enter");
	int leave = attach_nothing_to_tracepoint("sys_exit");

	nothing = measure();
	close(enter);
	close(leave);
	if (enter < 0 || leave < 0)
		return;
	add("the least", "bare", &bare);
	add("the least", "empty programs", &nothing);
	add_difference("the least", "empty programs: more by", &nothing, &bare);
}

#ifdef HAVE_UCX
/* Measure in a child, because the hooks of UCX cannot be removed. */
static void round_of_ucx(void)
{
	struct sample both[2];
	int fds[2];
	pid_t pid;

	if (pipe(fds))
		exit(1);
	pid = fork();
	if (!pid) {
		both[0] = measure();
		if (!ucx.open())
			_exit(1);
		both[1] = measure();
		_exit(write(fds[1], both, sizeof(both)) != sizeof(both));
	}
	close(fds[1]);
	if (read(fds[0], both, sizeof(both)) == sizeof(both)) {
		add("UCX", "bare", &both[0]);
		add("UCX", "hooked", &both[1]);
	}
	close(fds[0]);
	waitpid(pid, NULL, 0);
}
#endif

static const char *const users[] = { "1 user", "2 users", "4 users", "8 users" };

static void targets(void)
{
	char what[64], more[64];

	for (size_t c = 0; c < NR_CALLS; c++) {
		snprintf(what, sizeof(what), "%s", case_of(c, "the least"));
		bench_target(what, "empty programs", what, "bare", 0);
		bench_limit(what, "empty programs: more by", 0);
		for (size_t u = 0; u < sizeof(users) / sizeof(*users); u++) {
			snprintf(more, sizeof(more), "%s", case_of(c, users[u]));
			bench_target(more, "watched", more, "bare", calls[c].at_most);
			bench_limit(more, "not watched: more by", 60);
		}
		snprintf(more, sizeof(more), "%s", case_of(c, "100k regions"));
		bench_target(more, "watched", more, "bare", calls[c].at_most);
		snprintf(more, sizeof(more), "%s", case_of(c, "UCX"));
		bench_target(more, "hooked", more, "bare", 0);
	}
}

int main(int argc, char **argv)
{
	bench_begin("watch", "ns", argc, argv);
	invlock_mm_close(watch());
	regions = mmap(NULL, 2 * PAGE * NR_REGIONS, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	discarded = mmap(NULL, BLOCK * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (regions == MAP_FAILED || discarded == MAP_FAILED)
		return perror("watch: mmap"), 1;
	madvise(discarded, BLOCK * PAGE, MADV_NOHUGEPAGE);
	others_start();
	for (int round = 0; round < bench_rounds; round++) {
		for (int nr = 1; nr <= MAX_USERS; nr *= 2)
			round_of_users(nr);
		round_of_regions();
		round_of_nothing();
#ifdef HAVE_UCX
		round_of_ucx();
#endif
	}
	others_end();
	targets();
	return bench_end();
}
