// SPDX-License-Identifier: MIT
/*
 * In the kernel, in a virtual machine: rounds and waits of a fault while a storm goes on, with
 * mmu_invlock and with mmu_interval_notifier on the same mirror. tests/vm/test_progress.c
 * asserts what of this does not depend on time.
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
		/* invlock's fault has as long again in its slow path */
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

	bench_begin("kernel progress", "as it says", argc, argv);
	/* a long story: one round, of many faults each */
	for (unsigned int nr = 0; nr < sizeof(cases) / sizeof(cases[0]); nr++)
		for (enum contender c = 0; c < NR_CONTENDERS; c++)
			measure(nr, c, drill);
	bench_note("storm of %u threads, at most %u faults or %u ms each; a wait that is as long "
		   "as that ended with the storm only", STORM_THREADS, FAULTS, MAX_MS);
	return bench_end();
}
