/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The write side: an invalidation marks the feed before and after the map changes.
 *
 * Everything here is inline, loops are bounded by constants, and nothing waits,
 * allocates or fails: it runs in BPF, under spinlocks, in signal handlers.
 * Writers need no lock, because they use atomics; or they exclude each other by a lock and use
 * none: see port_serial.h.
 */
#ifndef INVLOCK_CORE_INVALIDATE_H
#define INVLOCK_CORE_INVALIDATE_H

#include "invlock.h"
#include "stripe.h"

/* Is the range too wide to mark each stripe? An empty or wrapping range goes up to the top. */
static inline bool invlock_is_wide(const struct invlock *il, u64 start, u64 end)
{
	return end <= start ||
	       invlock_nr_stripes(start, end, il->stripe_shift) > INVLOCK_MAX_SPAN;
}

/* Return: the largest number of invalidations that were already running on a word */
static inline u64 invlock_words_add(const struct invlock *il, u64 start, u64 end, u64 delta)
{
	u64 first, last, before, most = 0;

	if (invlock_is_wide(il, start, end))
		return port_fetch_add(&il->feed->wide, delta) & INVLOCK_RUNNING_MASK;
	first = start >> il->stripe_shift;
	last = (end - 1) >> il->stripe_shift;
	for (u32 i = 0; i < INVLOCK_MAX_SPAN; i++) {
		/* pairs with the load in words_sum() */
		before = port_fetch_add(&il->words[invlock_stripe_word(first + i, il->word_mask)],
					delta) & INVLOCK_RUNNING_MASK;
		if (before > most)
			most = before;
		if (first + i == last)
			break;
	}
	return most;
}

/*
 * Claim the next number, and its slot in the ring: busy until invlock_write_event(). A slot that
 * is still busy with an older event is left alone: then readers find no event of this number.
 * Return: the number; 0 = there is no slot to write.
 */
static inline u64 invlock_claim_event(const struct invlock *il)
{
	/* pairs with the loads of sequence in read.c: the words moved before it */
	u64 seq = port_fetch_add(&il->feed->sequence, 1) + 1;
	struct invlock_event *ev;
	u64 seen;

	if (!il->events)
		return 0;
	ev = &il->events[seq & il->event_mask];
	seen = port_load(&ev->seq);
	if ((seen & INVLOCK_EVENT_BUSY) || seen >= seq ||
	    port_cmpxchg(&ev->seq, seen, seq | INVLOCK_EVENT_BUSY) != seen) {
		port_fetch_add(&il->feed->dropped, 1);
		return 0;
	}
	return seq;
}

/* @seq: claimed, not 0 */
static inline void invlock_write_event(const struct invlock *il, u64 seq, u64 start, u64 end,
				       u32 kind, u32 tid, u64 time)
{
	struct invlock_event *ev = &il->events[seq & il->event_mask];

	/* release: a reader that sees one of these also sees BUSY; pairs with event_overlaps() */
	port_store_release(&ev->start, start);
	port_store_release(&ev->end, end > start ? end : INVLOCK_ADDRESS_END);
	port_store(&ev->time, time);
	port_store(&ev->kind, kind);
	port_store(&ev->tid, tid);
	port_store_release(&ev->seq, seq);
}

static inline void invlock_record(const struct invlock *il, u64 start, u64 end,
				  u32 kind, u32 tid, u64 time)
{
	u64 seq = invlock_claim_event(il);

	if (likely(seq))
		invlock_write_event(il, seq, start, end, kind, tid, time);
}

/**
 * invlock_lose() - say that a change was made which could not be recorded
 * @il: the feed
 *
 * Every translation made so far becomes stale, and later ones are sound again. So call this after
 * the change. If the change may still be made, call invlock_close_feed() instead.
 * Context: any, never waits. Since: 0.1
 */
static inline void invlock_lose(const struct invlock *il)
{
	port_fetch_add(&il->feed->lost, 1);
	/* It runs until the sequence tells of it: readers absorb words that are quiet. */
	port_fetch_add(&il->feed->wide, INVLOCK_START);
	/* no event is written: the ring can prove nothing across this number */
	port_fetch_add(&il->feed->sequence, 1);
	port_fetch_add(&il->feed->wide, INVLOCK_END);
}

/**
 * invlock_blind_start() - from now on the writer may miss changes
 * @il: the feed
 *
 * This is a wide change that runs until invlock_blind_end(). That writes its event, because only
 * then it is known whether anything was missed. Until then the ring proves nothing across it.
 * Windows may nest.
 * Context: any, never waits. Ordering: full; a change that is missed afterwards is made after
 * readers can know that it may be missed. Return: the event, for invlock_blind_end(). Since: 0.2
 */
static inline u64 invlock_blind_start(const struct invlock *il)
{
	/* Before the event can be found busy: a reader that does finds why. */
	port_fetch_add(&il->feed->blind, 1);
	port_fetch_add(&il->feed->wide, INVLOCK_START);
	return invlock_claim_event(il);
}

/**
 * invlock_blind_end() - the writer sees again
 * @il: the feed
 * @event: what the matching invlock_blind_start() returned
 * @missed: a change was missed, or may have been, since then
 *
 * A change that was missed must have been made by now: translations that are made after this
 * are sound. For one that may still be made, see core/blind.h.
 * Context: any, never waits. Ordering: full. Since: 0.2
 */
static inline void invlock_blind_end(const struct invlock *il, u64 event, bool missed)
{
	/* the event overlaps everything, or nothing */
	if (event)
		invlock_write_event(il, event, missed ? 0 : INVLOCK_ADDRESS_END,
				    INVLOCK_ADDRESS_END, INVLOCK_KIND_UNKNOWN, 0, 0);
	if (missed)
		port_fetch_add(&il->feed->lost, 1);
	port_fetch_add(&il->feed->wide, INVLOCK_END);
	/* Last: a reader that finds 0 finds the event written. */
	port_fetch_add(&il->feed->blind, -1ULL);
}

/**
 * invlock_close_feed() - say that this feed can never be trusted again
 * @il: the feed
 * @flag: INVLOCK_FEED_DEAD or INVLOCK_FEED_DEGRADED
 *
 * wide stays running for ever, so no reader can sample, and the flag tells it why.
 * Context: any, never waits. Since: 0.1
 */
static inline void invlock_close_feed(const struct invlock *il, u64 flag)
{
	/* acquire: a writer that finds the flag finds wide running; pairs with the RMW below */
	u64 old = port_load_acquire(&il->feed->flags), seen;

	if (old & flag)
		return;
	/*
	 * Set the flag last: another writer that finds it records nothing more, and changes the
	 * map. Until then readers wait.
	 */
	port_fetch_add(&il->feed->wide, INVLOCK_START);
	port_fetch_add(&il->feed->sequence, 1);
	/* No flag is ever cleared, so the exchange fails no more often than there are bits. */
	for (u32 i = 0; i < 64 && !(old & flag); i++) {
		seen = port_cmpxchg(&il->feed->flags, old, old | flag);
		if (seen == old)
			return;
		old = seen;
	}
}

/**
 * invlock_inv_start() - the map is about to change
 * @il: the feed
 * @start: first byte
 * @end: the byte after the last; not above @start means "up to the top"
 * @kind: enum invlock_kind
 * @tid: the thread that makes the change, for the ring; 0 = unknown
 * @time: the time of the change, for the ring; 0 = not recorded
 *
 * Each start needs one invlock_inv_end() with the same range, on whatever thread.
 * Starts nest and overlap freely.
 * Context: any, never waits, allocates or fails. Locks: none needed.
 * Ordering: full; readers can know of the change before it is made.
 * Since: 0.1
 */
static inline void invlock_inv_start(const struct invlock *il, u64 start, u64 end,
				     u32 kind, u32 tid, u64 time)
{
	u64 running = invlock_words_add(il, start, end, INVLOCK_START);

	invlock_record(il, start, end, kind, tid, time);
	if (unlikely(running >= INVLOCK_RUNNING_LIMIT))
		invlock_close_feed(il, INVLOCK_FEED_DEGRADED);
}

/**
 * invlock_inv_end() - the map has changed
 * @il: the feed
 * @start: as in the start that this ends
 * @end: as in the start that this ends
 *
 * Context, locks: as for invlock_inv_start(). Ordering: full; a reader that samples
 * after this sees the changed map. Since: 0.1
 */
static inline void invlock_inv_end(const struct invlock *il, u64 start, u64 end)
{
	invlock_words_add(il, start, end, INVLOCK_END);
}

#endif /* INVLOCK_CORE_INVALIDATE_H */
