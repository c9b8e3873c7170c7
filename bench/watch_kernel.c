// SPDX-License-Identifier: MIT
/*
 * In a virtual machine, as ratios: what do calls cost a process that is watched, and one that is
 * not, by each monitor of the kernel? That of bpf at functions is what most machines' own kernels
 * would not let us measure, this one among them: see bpf/attach.h.
 */
#include <invlock/cache.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "lib/monitor_bpf.h"

#define PAGE		4096UL
#define BLOCK		64
#define NR_REGIONS	100000U
/* the fastest of so many: the others were interrupted by what else this machine does */
#define TRIES		25

static char *pages;

static void call_getppid(int nr)
{
	(void)nr;
	syscall(SYS_getppid);
}

static void call_discard(int nr)
{
	madvise(pages + nr * PAGE, PAGE, MADV_DONTNEED);
}

static void call_munmap(int nr)
{
	munmap(pages + nr * PAGE, PAGE);
}

static const struct call {
	const char *name;
	void (*call)(int nr);
	bool used;		/* pages were written to before */
	double at_most;		/* watched / bare, but at tracepoints; 0 = no target */
} calls[] = {
	{ "getppid", call_getppid, false, 1.10 },
	{ "munmap, used page", call_munmap, true, 1.10 },
	{ "MADV_DONTNEED, used page", call_discard, true, 1.10 },
	{ "MADV_DONTNEED, untouched", call_discard, false, 1.10 },
};

#define NR_CALLS (sizeof(calls) / sizeof(*calls))

struct sample {
	double ns[NR_CALLS];
};

static double measure_block(const struct call *c)
{
	double begin, end;

	pages = mmap(NULL, BLOCK * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	madvise(pages, BLOCK * PAGE, MADV_NOHUGEPAGE);
	if (c->used)
		memset(pages, 1, BLOCK * PAGE);
	begin = bench_now();
	for (int i = 0; i < BLOCK; i++)
		c->call(i);
	end = bench_now();
	munmap(pages, BLOCK * PAGE);
	return (end - begin) / BLOCK;
}

static struct sample measure(void)
{
	struct sample s;

	for (size_t c = 0; c < NR_CALLS; c++) {
		s.ns[c] = measure_block(&calls[c]);
		for (int i = 1; i < TRIES; i++) {
			double ns = measure_block(&calls[c]);

			if (ns < s.ns[c])
				s.ns[c] = ns;
		}
	}
	return s;
}

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx, (void)len;
	*ret_handle = (uintptr_t)addr;
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx, (void)addr, (void)len, (void)handle;
}

static void fill(struct invlock_mm *mm)
{
	struct invlock_cache_options o = { .size = sizeof(o), .ops = { reg, dereg } };
	unsigned int nr = BENCH_SIZE(NR_REGIONS, 100);
	char *at = mmap(NULL, 2 * PAGE * nr, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct invlock_cache *cache;
	struct invlock_pin pin;

	if (invlock_cache_open(mm, &o, &cache, NULL))
		_exit(1);
	for (unsigned int i = 0; i < nr; i++)
		if (!invlock_cache_get(cache, at + 2 * PAGE * i, PAGE, 0, &pin))
			invlock_cache_put(&pin);
}

/* NULL: nobody watches */
static struct invlock_mm *watch(const char *monitor)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = monitor };
	struct invlock_mm *mm = NULL;
	struct invlock_why why;

	if (monitor && invlock_mm_open(&o, &mm, &why)) {
		fprintf(stderr, "watch: %s\n", why.text);
		_exit(1);
	}
	return mm;
}

/* in a process of its own, watched by this monitor */
static void measure_watched(const char *monitor, bool regions, const char *more, const char *who)
{
	struct sample s;
	char what[64];
	int result[2];

	if (pipe(result))
		exit(1);
	if (!fork()) {
		struct invlock_mm *mm = watch(monitor);

		if (regions)
			fill(mm);
		s = measure();
		_exit(write(result[1], &s, sizeof(s)) != sizeof(s));
	}
	close(result[1]);
	if (read(result[0], &s, sizeof(s)) != sizeof(s))
		exit(1);
	close(result[0]);
	wait(NULL);
	for (size_t c = 0; c < NR_CALLS; c++) {
		snprintf(what, sizeof(what), "%s, %s", calls[c].name, more);
		bench_add(what, who, s.ns[c]);
	}
}

static const struct watcher {
	const char *name;
	const char *monitor;
	bool tracepoints;
} watchers[] = {
	{ "bpf at functions", "bpf", false },
	{ "bpf at tracepoints", "bpf", true },
	{ "kmod", "kmod", false },
};

/* we hold the programs, so that the processes which are measured need not load them */
static void measure_watcher(const struct watcher *w)
{
	struct invlock_mm *mm;
	struct bpf_set_header head = { .attached = BPF_AT_FUNCTIONS };

	for (int round = 0; round < bench_rounds; round++)
		measure_watched(NULL, false, w->name, "bare");
	monitor_bpf_options.tracepoints = w->tracepoints;
	mm = watch(w->monitor);
	if (!strcmp(w->monitor, "bpf"))
		monitor_bpf_set(mm, &head);
	if (head.attached != (w->tracepoints ? BPF_AT_TRACEPOINTS : BPF_AT_FUNCTIONS))
		bench_note("%s is not what was measured: %s", w->name, head.reason);
	for (int round = 0; round < bench_rounds; round++) {
		measure_watched(w->monitor, false, w->name, "watched");
		measure_watched(w->monitor, true, w->name, "100k regions");
		measure_watched(NULL, false, w->name, "not watched");
	}
	invlock_mm_close(mm);
	for (size_t c = 0; c < NR_CALLS; c++) {
		char what[64];
		double most = w->tracepoints ? 0 : calls[c].at_most;

		snprintf(what, sizeof(what), "%s, %s", calls[c].name, w->name);
		bench_target(what, "watched", what, "bare", most);
		bench_target(what, "100k regions", what, "bare", most);
		bench_target(what, "not watched", what, "bare", c ? 0 : most);
	}
}

int main(int argc, char **argv)
{
	bench_begin("watched in a guest", "ns", argc, argv);
	for (size_t i = 0; i < sizeof(watchers) / sizeof(*watchers); i++)
		measure_watcher(&watchers[i]);
	bench_note("measured in a virtual machine without hardware support: only ratios count");
	return bench_end();
}
