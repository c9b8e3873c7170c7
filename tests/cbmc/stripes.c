// SPDX-License-Identifier: MIT
/*
 * The lemma on which everything rests: if a change and a translation have a byte in common, the
 * change marks a word that the translation's check loads. It is proved in two halves: each of the
 * two touches the word of each byte's stripe, or wide; and both compute the same word.
 *
 * There is no memory: of all addresses that core touches, only that word and wide are watched.
 */
#include "any.h"

static const void *word_of_byte, *wide;
static bool met_word, met_wide;

static u64 touch(const void *p)
{
	met_word |= p == word_of_byte;
	met_wide |= p == wide;
	return any_u64();
}

u64 sim_load(const void *p, u32 size, enum sim_order order) { return touch(p); }
u64 sim_fetch_add(void *p, u32 size, u64 v, enum sim_order order) { return touch(p); }
u64 sim_cmpxchg(void *p, u32 size, u64 old, u64 v, enum sim_order order) { return touch(p); }
void sim_store(void *p, u32 size, u64 v, enum sim_order order) { touch(p); }
void sim_relax(void) {}

#include "core/invalidate.h"
#include "core/read.c"

static struct invlock_feed feed;
static u64 words[1u << BITS];
static const struct invlock il = {
	.feed = &feed, .words = words, .word_mask = (1u << BITS) - 1, .stripe_shift = SHIFT,
};

static void watch(u64 byte)
{
	wide = &feed.wide;
	word_of_byte = &words[invlock_stripe_word(byte >> SHIFT, il.word_mask)];
}

void a_change_marks_the_word_of_each_byte(void)
{
	u64 start = any_u64(), end = any_u64(), byte = any_u64();

	/* an end that is not above the start means the top of the address space */
	assume(byte >= start && (byte < end || end <= start));
	watch(byte);
	invlock_words_add(&il, start, end, INVLOCK_START);
	claim(met_word || met_wide, "the word of each byte is marked, or wide");
}

/*
 * The end touches the words that the start has touched, because they follow from the range alone.
 */
void a_translation_looks_at_the_word_of_each_byte(void)
{
	u64 start = any_u64(), end = any_u64(), byte = any_u64();
	struct invlock_snapshot snap;
	bool quiet;

	assume(byte >= start && byte < end);
	watch(byte);
	/* Either the fast path, if it succeeds, or the sum. */
	if (any_u64() & 1)
		assume(invlock_try_sample(&il, start, end, &snap));
	else
		words_sum(&il, start, end, &quiet);
	claim(met_word, "the word of each byte is in the sum");
	claim(met_wide, "wide is in the sum");
}

/* So a sum moves by at most 2 * INVLOCK_MAX_SPAN generations at once: see MAX_LAG. */
void a_sum_counts_a_word_at_most_twice(void)
{
	u64 a = any_u64(), b = any_u64(), c = any_u64();
	u32 mask = (1u << any_u64() % 21) - 1;

	assume(a < b && b < c && c - a < mask);
	claim(invlock_stripe_word(a, mask) != invlock_stripe_word(b, mask) ||
	      invlock_stripe_word(b, mask) != invlock_stripe_word(c, mask),
	      "three stripes of a range do not all have one word");
}

void the_number_of_stripes_is_right_up_to_the_top(void)
{
	u64 start = any_u64(), end = any_u64(), nr;

	assume(invlock_range_ok(start, end));
	nr = invlock_nr_stripes(start, end, SHIFT);
	claim(nr >= 1 && (start >> SHIFT) + nr - 1 == (end - 1) >> SHIFT,
	      "the last stripe is that of the last byte");
}
