/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The read side: sample before the work, validate after it and at every use.
 *
 * Nothing here waits, and nothing is written to the feed, which may be mapped
 * read-only. Code that translates does not call this but goes through section.h:
 * there a sample cannot leave its loop.
 */
#ifndef INVLOCK_CORE_READ_H
#define INVLOCK_CORE_READ_H

#include "invlock.h"
#include "stripe.h"

/**
 * struct invlock_snapshot - up to which event a translation is known to be valid
 * @sequence: no event up to this number made it stale
 * @words: the sum of the range's words and wide, taken while they were all quiet
 *
 * A word only grows between two quiet moments, so the sum is unchanged only if
 * every word is. Each field is true by itself, so readers may refresh a shared
 * snapshot without a lock: an older value that is stored late costs a false
 * "stale", never a false "valid".
 */
struct invlock_snapshot {
	u64 sequence;
	u64 words;
};

/**
 * invlock_sample() - begin: take a snapshot of a quiet range
 * @il: the feed
 * @start: first byte
 * @end: the byte after the last, above @start
 * @ret_snap: written on success only
 *
 * Context: any, never waits. Ordering: acquire; pairs with invlock_inv_end().
 * Return: 0; -EAGAIN while an invalidation of the range runs; -EOWNERDEAD when the
 * mm is gone; -ENOTRECOVERABLE when the feed is degraded. Since: 0.1
 */
int invlock_sample(const struct invlock *il, u64 start, u64 end,
		   struct invlock_snapshot *ret_snap);

/**
 * invlock_sample_as_of() - take a snapshot as of an earlier one
 * @il: the feed
 * @earlier: of a range that contains [@start, @end), which may be all memory. The feed has marked
 *	the changes of that range since.
 * @start: first byte
 * @end: the byte after the last, above @start
 * @ret_snap: written on success only
 *
 * What was translated after @earlier was taken is valid. That takes two proofs: nothing was running
 * there when @earlier was taken, and by the ring no event that is younger overlaps
 * [@start, @end). The ring alone would not do: a change that was running has an older number, and
 * may be made after the translation.
 *
 * Context: any, never waits. Ordering: acquire, as invlock_validate().
 * Return: false = something has overlapped, or may have, or runs now. Since: 0.1
 */
bool invlock_sample_as_of(const struct invlock *il, const struct invlock_snapshot *earlier,
			  u64 start, u64 end, struct invlock_snapshot *ret_snap);

/* Sentinel that is never quiet: every fast check against it fails. */
extern const u64 invlock_unquiet;

/**
 * invlock_only_word() - the one word that decides about a range
 * @il: the feed
 * @start: first byte
 * @end: the byte after the last
 *
 * Return: the word of the range's only stripe; &invlock_unquiet for several stripes and for a
 * feed that has to settle. Since: 0.1
 */
static inline const u64 *invlock_only_word(const struct invlock *il, u64 start, u64 end)
{
	if (unlikely(il->settle || !invlock_in_one_stripe(start, end, il->stripe_shift)))
		return &invlock_unquiet;
	return &il->words[invlock_stripe_word(start >> il->stripe_shift, il->word_mask)];
}

/*
 * The fast path of invlock_sample(), for a range that lies in one stripe. Not for a feed that
 * has to settle. Return: false is inconclusive: call invlock_sample(). Ordering: as there.
 */
static inline bool invlock_try_sample(const struct invlock *il, u64 start, u64 end,
				      struct invlock_snapshot *ret_snap)
{
	const u64 *only = invlock_only_word(il, start, end);
	u64 sequence, wide, word;

	if (unlikely(only == &invlock_unquiet))
		return false;
	/* the sequence before the words; all pair with the RMWs of invlock_inv_start() */
	sequence = port_load_acquire(&il->feed->sequence);
	wide = port_load_acquire(&il->feed->wide);
	word = port_load_acquire(only);
	if (unlikely((wide | word) & INVLOCK_RUNNING_MASK))
		return false;
	ret_snap->sequence = sequence;
	ret_snap->words = wide + word;
	return true;
}

enum invlock_verdict {
	INVLOCK_STALE,		/* an invalidation may have overlapped: undo */
	INVLOCK_VALID,
	INVLOCK_UNSETTLED,	/* not known yet: wait, then ask again */
};

/*
 * The fast path of invlock_validate(): did nothing happen at all, or nothing in the range's only
 * stripe? Not for a feed that has to settle. Nothing that is loaded here is kept: the acquires
 * are for what the caller does next. Return: false is inconclusive: call invlock_validate().
 */
static inline bool invlock_unmoved(const struct invlock *il, const struct invlock_snapshot *snap,
				   u64 start, u64 end)
{
	u64 lag = port_load_acquire(&il->feed->sequence) - port_load(&snap->sequence);
	u64 stripe = start >> il->stripe_shift;
	u64 words;

	if (!lag)
		return true;
	if (unlikely(lag > il->max_lag ||
		     !invlock_in_one_stripe(start, end, il->stripe_shift)))
		return false;
	/* both pair with the RMWs in invlock_words_add() */
	words = port_load_acquire(&il->feed->wide);
	words += port_load_acquire(&il->words[invlock_stripe_word(stripe, il->word_mask)]);
	return likely(words == port_load(&snap->words));
}

/*
 * The fastest path of invlock_validate(): did nothing happen in @word, which is
 * invlock_only_word() of the snapshot's range? A snapshot is taken while nothing runs, so
 * against the sentinel invlock_unquiet this is always false. Return: false is inconclusive:
 * call invlock_validate(). Ordering: as invlock_unmoved().
 */
static inline bool invlock_word_unmoved(const struct invlock *il,
					const struct invlock_snapshot *snap, const u64 *word)
{
	u64 words, lag;

	/* both pair with the RMWs in invlock_words_add() */
	words = port_load_acquire(word);
	words += port_load_acquire(&il->feed->wide);
	if (unlikely(words != port_load(&snap->words)))
		return false;
	/* is the snapshot so young that the sum cannot have come round? */
	lag = port_load_acquire(&il->feed->sequence) - port_load(&snap->sequence);
	return likely(lag <= il->max_lag);
}

/* the slow path of invlock_validate() */
enum invlock_verdict invlock_validate_slow(const struct invlock *il,
					    struct invlock_snapshot *snap,
					    u64 start, u64 end, u64 sequence);

/**
 * invlock_validate() - did nothing collide since the snapshot?
 * @il: the feed
 * @snap: of [@start, @end); refreshed when that saves work later. May be shared
 *	between threads.
 * @start: as sampled
 * @end: as sampled
 *
 * Context: any, never waits. Locks: none.
 * Ordering: acquire; pairs with invlock_inv_start(). An invalidation whose start
 * happened before this call is seen.
 * Return: enum invlock_verdict. An invalidation that starts later is not covered by
 * INVLOCK_VALID. Since: 0.1
 */
static inline enum invlock_verdict invlock_validate(const struct invlock *il,
						    struct invlock_snapshot *snap,
						    u64 start, u64 end)
{
	u64 sequence;

	if (unlikely(il->settle) && !il->settle(il->settle_arg))
		return INVLOCK_UNSETTLED;
	if (likely(invlock_unmoved(il, snap, start, end)))
		return INVLOCK_VALID;
	/* the sequence before the words: the next call sees an event that comes in between */
	sequence = port_load_acquire(&il->feed->sequence);
	return invlock_validate_slow(il, snap, start, end, sequence);
}

#endif /* INVLOCK_CORE_READ_H */
