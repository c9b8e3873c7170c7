// SPDX-License-Identifier: MIT
/*
 * Sampling and validating: stripes, the wide word, the ring, and the cases that must fail closed.
 */
#include "tests/test.h"
#include "tests/core/rig.h"

#define MiB	(1ULL << 20)
#define STRIPE	(2 * MiB)

static struct test_feed f;

static void sample(u64 start, u64 end, struct invlock_snapshot *snap)
{
	assert_int_equal(invlock_sample(&f.il, start, end, snap), 0);
}

#define assert_valid(snap, start, end) \
	assert_int_equal(invlock_validate(&f.il, snap, start, end), INVLOCK_VALID)
#define assert_stale(snap, start, end) \
	assert_int_equal(invlock_validate(&f.il, snap, start, end), INVLOCK_STALE)

TEST(a_change_makes_an_overlapping_snapshot_stale_for_good)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 64);
	sample(0x10000, 0x20000, &snap);
	assert_valid(&snap, 0x10000, 0x20000);
	feed_change(&f, 0x1f000, 0x30000);
	assert_stale(&snap, 0x10000, 0x20000);
	assert_stale(&snap, 0x10000, 0x20000);
	feed_free(&f);
}

TEST(while_an_invalidation_runs_nothing_can_be_sampled_there)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 64);
	invlock_inv_start(&f.il, 0x10000, 0x11000, INVLOCK_KIND_UNMAP, 0, 0);
	assert_int_equal(invlock_sample(&f.il, 0x10000, 0x11000, &snap), -EAGAIN);
	sample(64 * STRIPE, 64 * STRIPE + 1, &snap);
	invlock_inv_end(&f.il, 0x10000, 0x11000);
	sample(0x10000, 0x11000, &snap);
	feed_free(&f);
}

TEST(the_ring_saves_a_snapshot_whose_stripe_moved_elsewhere)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 64);
	sample(0x10000, 0x20000, &snap);
	feed_change(&f, 0x20000, 0x30000);
	assert_valid(&snap, 0x10000, 0x20000);
	assert_int_equal(snap.sequence, 1);
	feed_change(&f, 0x0, 0x10000);
	assert_valid(&snap, 0x10000, 0x20000);
	feed_free(&f);
}

TEST(without_a_ring_a_neighbours_change_makes_a_translation_falsely_stale)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 0);
	sample(0x10000, 0x20000, &snap);
	feed_change(&f, 8 * STRIPE, 8 * STRIPE + 1);
	assert_valid(&snap, 0x10000, 0x20000);
	feed_change(&f, 0x20000, 0x30000);
	assert_stale(&snap, 0x10000, 0x20000);
	feed_free(&f);
}

TEST(an_overrun_ring_proves_nothing)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 16);
	sample(0x10000, 0x20000, &snap);
	for (int i = 0; i < 16; i++)
		feed_change(&f, 0x20000, 0x30000);
	assert_valid(&snap, 0x10000, 0x20000);
	for (int i = 0; i < 17; i++)
		feed_change(&f, 0x20000, 0x30000);
	assert_stale(&snap, 0x10000, 0x20000);
	feed_free(&f);
}

/* A snapshot must not absorb the words of a change that the ring does not hold yet. */
TEST(a_proof_while_a_neighbour_runs_keeps_the_old_words)
{
	struct invlock_snapshot snap, before;

	feed_make(&f, 4096, 64);
	sample(0x10000, 0x20000, &snap);
	before = snap;
	invlock_inv_start(&f.il, 0x20000, 0x30000, INVLOCK_KIND_UNMAP, 0, 0);
	assert_valid(&snap, 0x10000, 0x20000);
	assert_int_equal(snap.words, before.words);
	assert_int_equal(snap.sequence, 1);
	/* A second writer has moved the words, and has not raised the sequence yet. */
	invlock_words_add(&f.il, 0x10000, 0x11000, INVLOCK_START);
	assert_valid(&snap, 0x10000, 0x20000);
	invlock_record(&f.il, 0x10000, 0x11000, INVLOCK_KIND_UNMAP, 0, 0);
	assert_stale(&snap, 0x10000, 0x20000);
	feed_free(&f);
}

TEST(a_wide_change_reaches_every_range)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 64);
	sample(0x7f0000000000, 0x7f0000001000, &snap);
	feed_change(&f, 0, INVLOCK_ADDRESS_END);
	assert_stale(&snap, 0x7f0000000000, 0x7f0000001000);
	/* A wide change elsewhere: the ring shows that it does not overlap. */
	sample(0x7f0000000000, 0x7f0000001000, &snap);
	feed_change(&f, 0x10000000, 0x10000000 + 100 * STRIPE);
	assert_valid(&snap, 0x7f0000000000, 0x7f0000001000);
	feed_free(&f);
}

TEST(an_empty_or_wrapping_change_reaches_to_the_top)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 64);
	sample(0x10000, 0x20000, &snap);
	feed_change(&f, 0x5000, 0x5000);
	assert_stale(&snap, 0x10000, 0x20000);
	sample(0x10000, 0x20000, &snap);
	feed_change(&f, 0x5000, 0x1000);
	assert_stale(&snap, 0x10000, 0x20000);
	sample(0x1000, 0x5000, &snap);
	feed_change(&f, 0x5000, 0x1000);
	assert_valid(&snap, 0x1000, 0x5000);
	sample(0x10000, 0x20000, &snap);
	feed_free(&f);
}

TEST(a_range_of_more_stripes_than_words_sees_every_change_in_it)
{
	struct invlock_snapshot snap;

	feed_make(&f, 16, 64);
	for (u64 at = 0; at < 64; at++) {
		sample(0, 64 * STRIPE, &snap);
		feed_change(&f, at * STRIPE, at * STRIPE + 1);
		assert_stale(&snap, 0, 64 * STRIPE);
	}
	feed_free(&f);
}

TEST(the_top_of_the_address_space_is_a_range_like_any_other)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 64);
	sample(~0ULL - 4095, ~0ULL, &snap);
	feed_change(&f, 0, 4096);
	assert_valid(&snap, ~0ULL - 4095, ~0ULL);
	feed_change(&f, ~0ULL - 1, ~0ULL);
	assert_stale(&snap, ~0ULL - 4095, ~0ULL);
	feed_free(&f);
}

TEST(a_feed_of_one_word_works_like_a_sequence_count)
{
	struct invlock_snapshot snap;

	feed_make(&f, 1, 0);
	sample(0x10000, 0x20000, &snap);
	feed_change(&f, 1ULL << 40, (1ULL << 40) + 1);
	assert_stale(&snap, 0x10000, 0x20000);
	feed_free(&f);
}

TEST(a_lost_change_makes_everything_stale_once)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 64);
	sample(0x10000, 0x20000, &snap);
	invlock_lose(&f.il);
	assert_stale(&snap, 0x10000, 0x20000);
	assert_int_equal(f.il.feed->lost, 1);
	sample(0x10000, 0x20000, &snap);
	assert_valid(&snap, 0x10000, 0x20000);
	feed_free(&f);
}

TEST(a_dropped_event_proves_nothing)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 16);
	sample(0x10000, 0x20000, &snap);
	f.il.events[1].seq = INVLOCK_EVENT_BUSY;
	feed_change(&f, 0x20000, 0x21000);
	assert_int_equal(f.il.feed->dropped, 1);
	assert_stale(&snap, 0x10000, 0x20000);
	feed_free(&f);
}

TEST(a_dead_or_degraded_feed_can_neither_be_sampled_nor_validated)
{
	static const struct { u64 flag; int err; } cases[] = {
		{ INVLOCK_FEED_DEAD, -EOWNERDEAD },
		{ INVLOCK_FEED_DEGRADED, -ENOTRECOVERABLE },
	};
	struct invlock_snapshot snap, later;

	for (int i = 0; i < 2; i++) {
		feed_make(&f, 4096, 64);
		sample(0x10000, 0x20000, &snap);
		invlock_close_feed(&f.il, cases[i].flag);
		assert_stale(&snap, 0x10000, 0x20000);
		assert_int_equal(invlock_sample(&f.il, 0x10000, 0x20000, &later), cases[i].err);
		invlock_close_feed(&f.il, cases[i].flag);
		assert_int_equal(f.il.feed->wide & INVLOCK_RUNNING_MASK, 1);
		feed_free(&f);
	}
}

TEST(too_many_running_invalidations_degrade_the_feed_before_a_carry)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 0);
	sample(0x10000, 0x20000, &snap);
	for (u32 i = 0; i <= INVLOCK_RUNNING_LIMIT; i++) {
		assert_int_equal(f.il.feed->flags, 0);
		invlock_inv_start(&f.il, 0x10000, 0x11000, INVLOCK_KIND_UNMAP, 0, 0);
	}
	assert_int_equal(f.il.feed->flags, INVLOCK_FEED_DEGRADED);
	for (u32 i = 0; i <= INVLOCK_RUNNING_LIMIT; i++)
		invlock_inv_end(&f.il, 0x10000, 0x11000);
	assert_stale(&snap, 0x10000, 0x20000);
	assert_int_equal(invlock_sample(&f.il, 0x10000, 0x20000, &snap), -ENOTRECOVERABLE);
	feed_free(&f);
}

TEST(a_generation_that_wraps_makes_nothing_valid_again)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 64);
	f.il.words[0] = ~0ULL << 16;
	f.il.feed->sequence = ~0ULL - 3;
	sample(0x10000, 0x20000, &snap);
	assert_valid(&snap, 0x10000, 0x20000);
	feed_change(&f, 0x10000, 0x11000);
	assert_stale(&snap, 0x10000, 0x20000);

	/* After 2^48 changes the word has the same value again. */
	sample(0x10000, 0x20000, &snap);
	f.il.feed->sequence += 1ULL << 48;
	assert_stale(&snap, 0x10000, 0x20000);

	/* The sum of 32 words comes round sooner: each change may move all of them. */
	sample(0, 32 << 21, &snap);
	for (int i = 0; i < 32; i++)
		f.il.words[i] += 1ULL << 43 << 16;
	f.il.feed->sequence += 1ULL << 43;
	assert_stale(&snap, 0, 32 << 21);
	feed_free(&f);
}

TEST(nested_and_overlapping_invalidations_count)
{
	struct invlock_snapshot snap;

	feed_make(&f, 4096, 64);
	invlock_inv_start(&f.il, 0x10000, 0x20000, INVLOCK_KIND_UNMAP, 0, 0);
	invlock_inv_start(&f.il, 0x0, 0x40000, INVLOCK_KIND_UNMAP, 0, 0);
	invlock_inv_end(&f.il, 0x10000, 0x20000);
	assert_int_equal(invlock_sample(&f.il, 0x10000, 0x11000, &snap), -EAGAIN);
	invlock_inv_end(&f.il, 0x0, 0x40000);
	sample(0x10000, 0x11000, &snap);
	feed_free(&f);
}

TEST_MAIN()
