// SPDX-License-Identifier: MIT
/* What does watching cost the program? Calls with the monitor open against the same without. */
#include <invlock/mm.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define CALLS	20000
#define PAGE	4096UL

static char *page;

static void call_nothing(void)
{
	syscall(SYS_getppid);
}

static void call_munmap(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(p, PAGE);
}

static void call_dontneed(void)
{
	madvise(page, PAGE, MADV_DONTNEED);
}

static const struct {
	const char *name;
	void (*call)(void);
} calls[] = {
	{ "getppid", call_nothing },
	{ "mmap + munmap, 1 page", call_munmap },
	{ "MADV_DONTNEED, untouched", call_dontneed },
};
#define NR (sizeof(calls) / sizeof(*calls))

static double measure(void (*call)(void))
{
	double begin = bench_now();

	for (int i = 0; i < CALLS; i++)
		call();
	return (bench_now() - begin) / CALLS;
}

int main(int argc, char **argv)
{
	struct invlock_mm_options o = { .size = sizeof(o), .need = INVLOCK_BIT(UNMAP) };
	double bare[NR][BENCH_ROUNDS], watched[NR][BENCH_ROUNDS], ratio[NR][BENCH_ROUNDS];
	struct invlock_why why;
	struct invlock_mm *mm;

	if (argc > 1)
		o.monitor = argv[1];
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int round = 0; round < BENCH_ROUNDS; round++) {
		for (size_t i = 0; i < NR; i++)
			bare[i][round] = measure(calls[i].call);
		if (invlock_mm_open(&o, &mm, &why))
			return fprintf(stderr, "watch: %s\n", why.text), 1;
		for (size_t i = 0; i < NR; i++)
			watched[i][round] = measure(calls[i].call);
		invlock_mm_close(mm);
		for (size_t i = 0; i < NR; i++)
			ratio[i][round] = watched[i][round] / bare[i][round];
	}
	printf("call                          bare ns  watched ns   ratio  min..max\n");
	for (size_t i = 0; i < NR; i++) {
		double median = bench_median(ratio[i], BENCH_ROUNDS);

		printf("%-28s %8.1f  %10.1f  %6.2f  %.2f..%.2f\n", calls[i].name,
		       bench_median(bare[i], BENCH_ROUNDS), bench_median(watched[i], BENCH_ROUNDS),
		       median, ratio[i][0], ratio[i][BENCH_ROUNDS - 1]);
	}
	return 0;
}
