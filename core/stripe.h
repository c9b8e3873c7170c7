/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Stripes: which words stand for a range of addresses.
 *
 * Addresses are cut into stripes of 2^shift bytes. A stripe's number is hashed
 * into the words by folding, so that neighbours get different words as long as
 * there are enough of them. Two stripes may share a word: that costs a false
 * collision, never a missed one.
 */
#ifndef INVLOCK_CORE_STRIPE_H
#define INVLOCK_CORE_STRIPE_H

#include "port.h"

static inline u32 invlock_stripe_word(u64 stripe, u32 word_mask)
{
	return (u32)(stripe ^ (stripe >> 12) ^ (stripe >> 24)) & word_mask;
}

/* a range that a reader may ask about: not empty, and its end does not wrap */
static inline bool invlock_range_ok(u64 start, u64 end)
{
	return start < end;
}

/* stripes that [start, end) touches; start < end */
static inline u64 invlock_nr_stripes(u64 start, u64 end, u32 shift)
{
	return ((end - 1) >> shift) - (start >> shift) + 1;
}

/* does [start, end) lie in one stripe? start < end */
static inline bool invlock_in_one_stripe(u64 start, u64 end, u32 shift)
{
	return (end - 1) >> shift == start >> shift;
}

#endif /* INVLOCK_CORE_STRIPE_H */
