// SPDX-License-Identifier: MIT
/* How many cache lines move between CPUs for each hit? They are counted, not timed. */
#include <stdio.h>

#include "bench.h"
#include "lines_run.h"

static void measure(int nr_cpus, const char *who, struct lines_setup setup)
{
	struct lines_count hits, events;
	char what[20];

	snprintf(what, sizeof(what), "%d CPU%s", nr_cpus, nr_cpus > 1 ? "s" : "");
	setup.nr_cpus = nr_cpus;
	setup.rounds = 1024;
	if (lines_run(&setup, &hits, &events))
		exit(1);
	bench_add(what, who, (double)hits.transfers / setup.rounds / nr_cpus);
	if (setup.events)
		bench_add(what, "the event itself", (double)events.transfers / setup.rounds);
}

int main(int argc, char **argv)
{
	bench_begin("lines", "lines moved per hit", argc, argv);
	/* each round would give the same numbers */
	bench_rounds = 1;
	for (int nr_cpus = 1; nr_cpus <= LINES_CPUS; nr_cpus *= 2) {
		measure(nr_cpus, "invlock", (struct lines_setup){});
		measure(nr_cpus, "invlock, an event before each hit",
			(struct lines_setup){ .events = true });
		measure(nr_cpus, "a count in each region",
			(struct lines_setup){ .extra = LINES_COUNT });
		measure(nr_cpus, "a lock", (struct lines_setup){ .extra = LINES_LOCK });
	}
	/* a CPU can only learn of an event by reading a line that the event wrote */
	bench_limit("64 CPUs", "invlock, an event before each hit", 1);
	return bench_end();
}
