// SPDX-License-Identifier: MIT
/* A word: generations that wrap, invalidations that are counted, and a sum that comes round. */
#include "memory.h"
#include "core/invalidate.h"
#include "core/read.c"

static struct invlock_feed feed;
static u64 word;
static const struct invlock il = {
	.feed = &feed, .words = &word, .max_lag = 1u << 20, .stripe_shift = 21
};

static u64 running(u64 word)
{
	return word & INVLOCK_RUNNING_MASK;
}

static u64 generation(u64 word)
{
	return word / INVLOCK_GENERATION;
}

/* An invalidation may find a word below the limit, and add to it up to INVLOCK_MAX_SPAN times. */
void a_word_counts_without_a_carry_also_when_it_wraps(void)
{
	u64 word = any_u64(), times = any_u64(), started, ended;

	assume(running(word) < INVLOCK_RUNNING_LIMIT && times <= INVLOCK_MAX_SPAN);
	started = word + times * INVLOCK_START;
	ended = started + times * INVLOCK_END;
	claim(running(started) == running(word) + times, "each start counts as running");
	claim(generation(started) == ((generation(word) + times) & (~0ULL >> 16)), "all counted");
	claim(running(ended) == running(word), "each end counts");
	claim(generation(ended) == generation(started), "an end adds no generation");
}

void too_many_running_invalidations_close_the_feed(void)
{
	feed.wide = any_u64();
	feed.sequence = any_u64();
	feed.flags = any_u64();
	assume(running(feed.wide) >= INVLOCK_RUNNING_LIMIT &&
	       running(feed.wide) < INVLOCK_RUNNING_MASK - 2);
	assume(!(feed.flags & INVLOCK_FEED_DEGRADED));
	u64 before = running(feed.wide);

	/* A range up to the top of the address space is recorded in wide. */
	invlock_inv_start(&il, any_u64(), 0, INVLOCK_KIND_UNMAP, 0, 0);
	claim(feed.flags & INVLOCK_FEED_DEGRADED, "the flag is set");
	invlock_inv_end(&il, any_u64(), 0);
	claim(running(feed.wide) == before + 1, "wide stays marked as running");
}

/* What that many events add to a sum of quiet words: see MAX_LAG. */
void a_sum_does_not_come_round_within_the_lag(void)
{
	u64 events = any_u64(), generations = any_u64();

	assume(events >= 1 && events < MAX_LAG);
	assume(generations >= events && generations <= events * 2 * INVLOCK_MAX_SPAN);
	claim(generations * INVLOCK_GENERATION != 0, "the sum has another value");
}

/* A snapshot of any age, and a sequence that may have wrapped. */
void an_old_snapshot_is_never_valid(void)
{
	struct invlock_snapshot snap = { .sequence = any_u64(), .words = any_u64() };
	u64 from = snap.sequence, start = any_u64();

	assume(start < 1ULL << 47);
	feed.sequence = any_u64();
	feed.wide = any_u64();
	word = any_u64();
	assume(feed.sequence - from >= MAX_LAG && from - feed.sequence >= MAX_LAG);
	claim(!invlock_word_unmoved(&il, &snap, invlock_only_word(&il, start, start + 4096)),
	      "the fast path does not accept it, either");
	claim(invlock_validate(&il, &snap, start, start + 4096) == INVLOCK_STALE, "stale");
}

/* A snapshot is always of words that were quiet. */
void no_snapshot_is_one_of_invlock_unquiet(void)
{
	struct invlock_snapshot snap = { .sequence = any_u64(), .words = any_u64() };

	feed.sequence = any_u64();
	feed.wide = any_u64();
	assume(!running(snap.words) && running(feed.wide) < INVLOCK_RUNNING_MASK);
	claim(!invlock_word_unmoved(&il, &snap, &invlock_unquiet), "the sentinel is never unmoved");
}
