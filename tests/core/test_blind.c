// SPDX-License-Identifier: MIT
/*
 * A writer that is blind for a while: what readers answer meanwhile, and what remains afterwards.
 */
#include "tests/test.h"
#include "tests/core/rig.h"
#include "core/blind.h"

#define MiB	(1ULL << 20)

static struct test_feed f;
static struct invlock_snapshot snap;

static void feed_with_a_snapshot(u32 nr_events)
{
	feed_make(&f, 4096, nr_events);
	assert_int_equal(invlock_sample(&f.il, 0x10000, 0x20000, &snap), 0);
}

static enum invlock_verdict verdict(void)
{
	const u64 *word = invlock_only_word(&f.il, 0x10000, 0x20000);
	enum invlock_verdict v = invlock_validate(&f.il, &snap, 0x10000, 0x20000);

	/* The fast check may answer "valid" only if invlock_validate() does, too. */
	assert_true(v == INVLOCK_VALID || !invlock_word_unmoved(&f.il, &snap, word));
	return v;
}

TEST(while_the_writer_is_blind_a_translation_is_unsettled_and_then_valid_if_nothing_was_missed)
{
	u64 event;

	feed_with_a_snapshot(64);
	event = invlock_blind_start(&f.il);
	assert_int_equal(verdict(), INVLOCK_UNSETTLED);
	invlock_blind_end(&f.il, event, false);
	assert_int_equal(verdict(), INVLOCK_VALID);
	assert_int_equal(f.il.feed->lost, 0);
	feed_free(&f);
}

TEST(a_translation_is_stale_if_the_writer_missed_something)
{
	u64 event;

	feed_with_a_snapshot(64);
	event = invlock_blind_start(&f.il);
	invlock_blind_end(&f.il, event, true);
	assert_int_equal(verdict(), INVLOCK_STALE);
	assert_int_equal(f.il.feed->lost, 1);
	/* A translation made after the window is valid. */
	assert_int_equal(invlock_sample(&f.il, 0x10000, 0x20000, &snap), 0);
	assert_int_equal(verdict(), INVLOCK_VALID);
	feed_free(&f);
}

TEST(nothing_can_be_sampled_while_the_writer_is_blind)
{
	struct invlock_snapshot other;
	u64 event;

	feed_with_a_snapshot(64);
	event = invlock_blind_start(&f.il);
	assert_int_equal(invlock_sample(&f.il, 64 * MiB, 65 * MiB, &other), -EAGAIN);
	assert_false(invlock_try_sample(&f.il, 64 * MiB, 64 * MiB + 1, &other));
	invlock_blind_end(&f.il, event, false);
	assert_true(invlock_try_sample(&f.il, 64 * MiB, 64 * MiB + 1, &other));
	feed_free(&f);
}

TEST(two_windows_overlap_and_the_verdict_comes_with_the_last)
{
	u64 first, second;

	feed_with_a_snapshot(64);
	first = invlock_blind_start(&f.il);
	second = invlock_blind_start(&f.il);
	invlock_blind_end(&f.il, first, false);
	assert_int_equal(verdict(), INVLOCK_UNSETTLED);
	invlock_blind_end(&f.il, second, false);
	assert_int_equal(verdict(), INVLOCK_VALID);

	first = invlock_blind_start(&f.il);
	second = invlock_blind_start(&f.il);
	invlock_blind_end(&f.il, first, true);
	assert_int_equal(verdict(), INVLOCK_UNSETTLED);
	invlock_blind_end(&f.il, second, false);
	assert_int_equal(verdict(), INVLOCK_STALE);
	feed_free(&f);
}

TEST(a_change_that_is_seen_during_a_window_still_counts)
{
	u64 event;

	feed_with_a_snapshot(64);
	event = invlock_blind_start(&f.il);
	feed_change(&f, 0x10000, 0x11000);
	invlock_blind_end(&f.il, event, false);
	assert_int_equal(verdict(), INVLOCK_STALE);
	feed_free(&f);
}

/* A reader gets here if it checked whether the writer is blind a moment too early. */
TEST(the_ring_proves_nothing_across_a_window_that_is_open)
{
	struct invlock_snapshot before;
	u64 event;

	feed_with_a_snapshot(64);
	before = snap;
	event = invlock_blind_start(&f.il);
	f.il.feed->blind = 0;
	assert_int_equal(verdict(), INVLOCK_STALE);
	assert_int_equal(snap.sequence, before.sequence);
	assert_int_equal(snap.words, before.words);
	f.il.feed->blind = 1;
	invlock_blind_end(&f.il, event, false);
	assert_int_equal(verdict(), INVLOCK_VALID);
	feed_free(&f);
}

TEST(a_ring_that_is_overrun_during_a_window_proves_nothing)
{
	u64 event;

	feed_with_a_snapshot(16);
	event = invlock_blind_start(&f.il);
	for (int i = 0; i < 17; i++)
		feed_change(&f, 0x20000, 0x30000);
	assert_int_equal(verdict(), INVLOCK_UNSETTLED);
	/*
	 * The event that found the window's slot busy was dropped, and not the window's own event.
	 */
	assert_int_equal(f.il.feed->dropped, 1);
	invlock_blind_end(&f.il, event, false);
	assert_int_equal(verdict(), INVLOCK_STALE);
	feed_free(&f);
}

TEST(a_window_that_finds_no_slot_makes_earlier_translations_stale)
{
	u64 event;

	feed_with_a_snapshot(16);
	f.il.events[1].seq = INVLOCK_EVENT_BUSY;
	event = invlock_blind_start(&f.il);
	assert_int_equal(event, 0);
	invlock_blind_end(&f.il, event, false);
	assert_int_equal(verdict(), INVLOCK_STALE);
	feed_free(&f);
}

TEST(without_a_ring_each_window_makes_earlier_translations_stale)
{
	feed_with_a_snapshot(0);
	invlock_blind_end(&f.il, invlock_blind_start(&f.il), false);
	assert_int_equal(verdict(), INVLOCK_STALE);
	feed_free(&f);
}

/* ---- the window of a CPU: core/blind.h ---- */

TEST(a_window_is_closed_only_if_no_task_was_preempted_since_the_look)
{
	struct invlock_blind w = {};
	struct invlock_blind_seen seen;

	feed_with_a_snapshot(64);
	assert_int_equal(invlock_blind_look(&w).number, 0);
	assert_true(invlock_blind_raise(&f.il, &w, 0));
	assert_int_equal(verdict(), INVLOCK_UNSETTLED);
	seen = invlock_blind_look(&w);
	assert_true(invlock_blind_raise(&f.il, &w, 0));
	assert_int_equal(f.il.feed->blind, 1);
	assert_false(invlock_blind_close(&f.il, &w, seen, 0));
	assert_int_equal(verdict(), INVLOCK_UNSETTLED);
	assert_true(invlock_blind_close(&f.il, &w, invlock_blind_look(&w), 0));
	assert_int_equal(f.il.feed->blind, 0);
	assert_int_equal(verdict(), INVLOCK_VALID);
	feed_free(&f);
}

TEST(a_run_that_was_skipped_in_a_window_makes_translations_stale_once)
{
	struct invlock_blind w = { .closed_misses = 7 };

	feed_with_a_snapshot(64);
	assert_true(invlock_blind_raise(&f.il, &w, 7));
	assert_true(invlock_blind_close(&f.il, &w, invlock_blind_look(&w), 9));
	assert_int_equal(verdict(), INVLOCK_STALE);
	assert_int_equal(invlock_sample(&f.il, 0x10000, 0x20000, &snap), 0);
	assert_true(invlock_blind_raise(&f.il, &w, 9));
	assert_true(invlock_blind_close(&f.il, &w, invlock_blind_look(&w), 9));
	assert_int_equal(verdict(), INVLOCK_VALID);
	feed_free(&f);
}

TEST(a_run_that_was_skipped_while_no_window_was_open_closes_the_feed)
{
	struct invlock_blind w = {};

	feed_with_a_snapshot(64);
	assert_false(invlock_blind_raise(&f.il, &w, 1));
	/* No reader waits for a feed that is closed. */
	assert_int_equal(verdict(), INVLOCK_STALE);
	assert_true(invlock_blind_close(&f.il, &w, invlock_blind_look(&w), 1));
	assert_int_equal(verdict(), INVLOCK_STALE);
	assert_int_equal(invlock_sample(&f.il, 0x10000, 0x20000, &snap), -ENOTRECOVERABLE);
	feed_free(&f);
}

TEST_MAIN()
