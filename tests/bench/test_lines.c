// SPDX-License-Identifier: MIT
/*
 * The hit path moves no cache line between CPUs. bench/lines_run.h counts, with the same result
 * each time.
 */
#include <invlock/feed.h>

#include "bench/lines_run.h"
#include "tests/test.h"

#define ROUNDS	256

static struct lines_count hits, events;

#define for_each_number_of_cpus(nr, first) for (int nr = (first); nr <= LINES_CPUS; nr *= 2)

static void run(struct lines_setup setup)
{
	assert_int_equal(lines_run(&setup, &hits, &events), 0);
	/* the calls that the compiler adds do arrive */
	assert_true(hits.accesses > 10ULL * setup.rounds * setup.nr_cpus);
}

TEST(a_hit_writes_to_no_line_that_another_cpu_has_touched)
{
	for_each_number_of_cpus(nr, 1) {
		run((struct lines_setup){ .nr_cpus = nr, .rounds = ROUNDS });
		assert_int_equal(hits.shared_writes, 0);
		assert_int_equal(hits.transfers, 0);
	}
}

/* The hit must read the new sequence. */
TEST(beside_events_a_hit_moves_one_line_on_any_number_of_cpus)
{
	for_each_number_of_cpus(nr, 1) {
		run((struct lines_setup){ .nr_cpus = nr, .rounds = ROUNDS, .events = true });
		assert_int_equal(hits.shared_writes, 0);
		assert_int_equal(hits.transfers, ROUNDS * nr);
		assert_int_equal(events.transfers, ROUNDS);
	}
}

/* The first thread that reads moves the region's snapshot forward, for all threads. */
TEST(beside_events_a_region_is_written_once_per_quarter_of_the_ring)
{
	int quarter = INVLOCK_NR_EVENTS / 4;

	run((struct lines_setup){ .nr_cpus = 4, .rounds = quarter - 64, .events = true });
	assert_int_equal(hits.shared_writes, 0);
	run((struct lines_setup){ .nr_cpus = 4, .rounds = quarter + 64, .events = true });
	assert_int_equal(hits.shared_writes, LINES_REGIONS);
}

/* The library's own store to a region: the first test must find such a store. */
TEST(the_first_hit_after_a_turn_of_the_clock_writes_to_the_region_and_is_seen)
{
	for_each_number_of_cpus(nr, 2) {
		run((struct lines_setup){ .nr_cpus = nr, .rounds = ROUNDS, .unreferenced = true });
		assert_int_equal(hits.shared_writes, LINES_REGIONS);
		assert_int_equal(hits.transfers, LINES_REGIONS * nr);
	}
}

TEST(a_reference_count_in_the_region_is_seen)
{
	for_each_number_of_cpus(nr, 2) {
		run((struct lines_setup){ .nr_cpus = nr, .rounds = ROUNDS, .extra = LINES_COUNT });
		assert_true(hits.shared_writes >= ROUNDS * nr);
		assert_true(hits.transfers >= ROUNDS * nr);
	}
}

TEST(a_lock_around_a_hit_is_seen)
{
	for_each_number_of_cpus(nr, 2) {
		run((struct lines_setup){ .nr_cpus = nr, .rounds = ROUNDS, .extra = LINES_LOCK });
		assert_true(hits.shared_writes >= ROUNDS * nr);
		assert_true(hits.transfers >= ROUNDS * nr);
	}
}

TEST_MAIN()
