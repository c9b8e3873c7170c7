// SPDX-License-Identifier: MIT
/* The counted ranges, compared with a plain array of counters. */
#include "rig.h"

#define PLACES	200
#define HELD	64

static u32 counts[PLACES + 1];

static u32 model_runs(void)
{
	u32 runs = 0;

	for (u32 i = 0; i < PLACES; i++)
		runs += counts[i] && (!i || !counts[i - 1]);
	return runs;
}

static void compare(const struct ranges *r)
{
	u64 start, end, from = 0;
	struct gap gap;

	assert_int_equal(r->nr_runs, model_runs());
	for (u32 i = 0; i < PLACES; i++) {
		bool is_gap = ranges_gap(r, i + 1, i + 2, &gap);

		assert_int_equal(is_gap, !counts[i]);
		if (!is_gap)
			continue;
		assert_int_equal(gap.start, i + 1);
		assert_int_equal(gap.end, i + 2);
		for (u64 a = gap.low ? gap.low : 1; a < gap.high && a <= PLACES; a++)
			assert_int_equal(counts[a - 1], 0);
		assert_true(gap.low <= 1 || counts[gap.low - 2]);
		assert_true(gap.high > PLACES || counts[gap.high - 1]);
	}
	while (ranges_run(r, from, &start, &end)) {
		for (u64 a = from ? from : 1; a < start; a++)
			assert_int_equal(counts[a - 1], 0);
		for (u64 a = start; a < end; a++)
			assert_true(counts[a - 1]);
		from = end;
	}
}

TEST(ranges_agree_with_counters_through_random_adds_and_removes)
{
	struct { u32 start, end; } held[HELD];
	u32 nr = 0, random = 12345;
	struct ranges r;

	assert_int_equal(ranges_init(&r), 0);
	for (int round = 0; round < 20000; round++) {
		random = random * 1103515245 + 12345;
		if (nr < HELD && (random >> 16 & 1)) {
			u32 start = (random >> 8) % PLACES, len = 1 + (random >> 20) % 40;

			held[nr].start = start;
			held[nr].end = start + len > PLACES ? PLACES : start + len;
			for (u32 i = start; i < held[nr].end; i++)
				counts[i]++;
			assert_int_equal(ranges_add(&r, start + 1, held[nr].end + 1), 0);
			nr++;
		} else if (nr) {
			u32 victim = (random >> 8) % nr;

			for (u32 i = held[victim].start; i < held[victim].end; i++)
				counts[i]--;
			assert_true(ranges_remove(&r, held[victim].start + 1,
						  held[victim].end + 1));
			held[victim] = held[--nr];
		}
		if (round % 50 == 0)
			compare(&r);
	}
	while (nr--)
		assert_true(ranges_remove(&r, held[nr].start + 1, held[nr].end + 1));
	assert_int_equal(r.nr_runs, 0);
	assert_false(ranges_remove(&r, 1, 2));
	/* No places are leaked: there are no more than were used at once. */
	assert_true(r.nr_used <= 2 * HELD + 1);
	ranges_free(&r);
}

TEST(a_range_that_was_never_added_cannot_be_removed)
{
	struct ranges r;

	assert_int_equal(ranges_init(&r), 0);
	assert_int_equal(ranges_add(&r, 10, 20), 0);
	assert_int_equal(ranges_add(&r, 30, 40), 0);
	assert_false(ranges_remove(&r, 10, 40));
	assert_false(ranges_remove(&r, 10, 15));
	assert_false(ranges_remove(&r, 50, 60));
	assert_int_equal(r.nr_runs, 2);
	ranges_free(&r);
}

TEST(a_hundred_thousand_ranges_fit_and_go)
{
	struct ranges r;

	assert_int_equal(ranges_init(&r), 0);
	for (u64 i = 0; i < 100000; i++)
		assert_int_equal(ranges_add(&r, 3 * (i ^ 0x5555) + 1, 3 * (i ^ 0x5555) + 2), 0);
	assert_int_equal(r.nr_runs, 100000);
	for (u64 i = 0; i < 100000; i++)
		assert_true(ranges_remove(&r, 3 * (i ^ 0x5555) + 1, 3 * (i ^ 0x5555) + 2));
	assert_int_equal(r.nr_runs, 0);
	ranges_free(&r);
}

TEST_MAIN()
