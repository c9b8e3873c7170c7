// SPDX-License-Identifier: MIT
/*
 * Measures the kernel module in a virtual machine: how many rounds and how much waiting a fault
 * needs during a storm of invalidations, on the mirror with mmu_invlock and on the mirror with
 * mmu_interval_notifier. tests/vm/test_progress.c asserts what does not depend on time.
 */
#include "bench/bench.h"
#include "tests/vm/progress.h"

static const struct {
	const char *name;
	enum storm storm;
	unsigned int hold_us;
} cases[] = {
	{ "disjoint, short", STORM_DISJOINT, 0 },
	{ "disjoint, overlapping", STORM_DISJOINT, 1000 },
	{ "same range, short", STORM_SAME, 0 },
	{ "same range, overlapping", STORM_SAME, 1000 },
	{ "huge unmaps", STORM_HUGE, 0 },
};

#define MAX_MS	1000
#define FAULTS	40

static void add(const char *name, const char *what, enum contender contender, double value)
{
	char title[64];

	snprintf(title, sizeof(title), "%s: %s", name, what);
	bench_add(title, contender_names[contender], value);
}

static void measure(unsigned int nr, enum contender contender, int drill)
{
	struct progress p = {
		.contender = contender,
		.storm = cases[nr].storm,
		.hold_us = cases[nr].hold_us,
		.faults = FAULTS,
		.max_ms = MAX_MS,
		/* the slow path of invlock has the same time again, so both have 100 ms */
		.time_ns = contender == INVLOCK ? 50000000 : 100000000,
	};
	double faults;

	progress_run(&p, drill);
	faults = p.stats.faults ? p.stats.faults : 1;
	add(cases[nr].name, "faults done", contender, p.tried - p.busy - p.wrong);
	add(cases[nr].name, "rounds a fault", contender, p.stats.walks / faults);
	add(cases[nr].name, "wait a fault, us", contender, p.stats.wait_ns / faults / 1000);
	add(cases[nr].name, "longest wait, us", contender, p.stats.longest_wait_ns / 1000.0);
	add(cases[nr].name, "gave up", contender, p.busy);
}

int main(int argc, char **argv)
{
	int drill = drill_open();

	bench_begin("kernel progress", "as each case says", argc, argv);
	/* one round only, because each takes long and has many faults */
	for (unsigned int nr = 0; nr < sizeof(cases) / sizeof(cases[0]); nr++)
		for (enum contender c = 0; c < NR_CONTENDERS; c++)
			measure(nr, c, drill);
	bench_note("%u threads make the storm; each case has at most %u faults and takes at most "
		   "%u ms; a wait of that length ended only because the storm did", STORM_THREADS,
		   FAULTS, MAX_MS);
	return bench_end();
}
