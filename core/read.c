// SPDX-License-Identifier: GPL-2.0-only OR MIT
#include "read.h"

/* how often a reader looks again at an event that has a number and is not written yet */
#define EVENT_SPINS	256

/*
 * An event adds INVLOCK_GENERATION to up to 32 words, and a sum counts a word at most twice. So a
 * sum cannot come round to an old value in fewer events than this.
 */
#define MAX_LAG		(1ULL << 42)

const u64 invlock_unquiet = 1;

static u64 load_word(const u64 *word, u64 *running)
{
	/* pairs with the RMWs in invlock_words_add() */
	u64 value = port_load_acquire(word);

	*running |= value & INVLOCK_RUNNING_MASK;
	return value;
}

/* the sum of the words of a range; *ret_quiet: no invalidation runs there */
__attribute__((__always_inline__))
static inline u64 words_sum(const struct invlock *il, u64 start, u64 end, bool *ret_quiet)
{
	u64 first = start >> il->stripe_shift;
	u64 nr = invlock_nr_stripes(start, end, il->stripe_shift);
	u64 running = 0;
	u64 sum = load_word(&il->feed->wide, &running);

	if (nr > il->word_mask) {
		/* as many stripes as words, or more: every word once */
		for (u64 i = 0; i <= il->word_mask; i++)
			sum += load_word(&il->words[i], &running);
	} else {
		for (u64 i = 0; i < nr; i++)
			sum += load_word(&il->words[invlock_stripe_word(first + i,
						il->word_mask)], &running);
	}
	*ret_quiet = !running;
	return sum;
}

int invlock_sample(const struct invlock *il, u64 start, u64 end,
		   struct invlock_snapshot *ret_snap)
{
	struct invlock_snapshot snap;
	bool quiet;
	u64 flags;

	if (il->settle && !il->settle(il->settle_arg))
		return -EAGAIN;
	/* the sequence before the words; both pair with the RMWs of invlock_inv_start() */
	snap.sequence = port_load_acquire(&il->feed->sequence);
	snap.words = words_sum(il, start, end, &quiet);
	if (unlikely(!quiet)) {
		flags = port_load(&il->feed->flags);
		if (flags & INVLOCK_FEED_DEAD)
			return -EOWNERDEAD;
		return flags & INVLOCK_FEED_DEGRADED ? -ENOTRECOVERABLE : -EAGAIN;
	}
	*ret_snap = snap;
	return 0;
}

/* Also true when the event cannot be read: it was overwritten, or is not written in time. */
static bool event_overlaps(const struct invlock_event *ev, u64 seq, u64 start, u64 end)
{
	u64 ev_start, ev_end;
	u32 spins = 0;

	/* pairs with the release of seq in invlock_record() */
	while (port_load_acquire(&ev->seq) != seq) {
		if ((port_load(&ev->seq) & ~INVLOCK_EVENT_BUSY) > seq || ++spins > EVENT_SPINS)
			return true;
		port_relax();
	}
	/* acquire: if a later event's field is seen, so is its seq; pairs with invlock_record() */
	ev_start = port_load_acquire(&ev->start);
	ev_end = port_load_acquire(&ev->end);
	if (port_load(&ev->seq) != seq)
		return true;
	return ev_start < end && start < ev_end;
}

/* does the ring prove that no event in (from, to] overlapped? */
static bool ring_clears(const struct invlock *il, u64 from, u64 to, u64 start, u64 end)
{
	if (!il->events || to - from > (u64)il->event_mask + 1)
		return false;
	for (u64 seq = from + 1; seq <= to; seq++)
		if (event_overlaps(&il->events[seq & il->event_mask], seq, start, end))
			return false;
	return true;
}

bool invlock_sample_as_of(const struct invlock *il, const struct invlock_snapshot *earlier,
			  u64 start, u64 end, struct invlock_snapshot *ret_snap)
{
	struct invlock_snapshot snap;
	bool quiet;

	if (il->settle && !il->settle(il->settle_arg))
		return false;
	/* The words before the sequence, as for every proof by the ring. */
	snap.words = words_sum(il, start, end, &quiet);
	snap.sequence = port_load(&il->feed->sequence);
	if (!quiet || !ring_clears(il, earlier->sequence, snap.sequence, start, end))
		return false;
	*ret_snap = snap;
	return true;
}

/* May a reader wait for the verdict? A feed that is closed never gives one. */
static bool is_blind(const struct invlock *il)
{
	return port_load(&il->feed->blind) && !port_load(&il->feed->flags);
}

enum invlock_verdict invlock_validate_slow(const struct invlock *il,
					    struct invlock_snapshot *snap,
					    u64 start, u64 end, u64 sequence)
{
	u64 from = port_load(&snap->sequence);
	u64 lag = sequence - from;
	bool quiet;
	u64 words;

	/* another thread has refreshed the snapshot beyond the sequence that we have loaded */
	if (from - sequence < MAX_LAG)
		return INVLOCK_VALID;
	if (unlikely(lag >= MAX_LAG))
		return INVLOCK_STALE;

	words = words_sum(il, start, end, &quiet);
	if (likely(words == port_load(&snap->words))) {
		/* other threads read this line: store to it only when the ring runs out soon */
		if (lag > il->max_lag)
			port_store(&snap->sequence, sequence);
		return INVLOCK_VALID;
	}

	/* While the writer is blind, its event is not written: do not spin for it here. */
	if (is_blind(il))
		return INVLOCK_UNSETTLED;
	/*
	 * The sequence after the words, so that each event that is in the words is scanned. Relaxed
	 * is enough: each event is recognised by its own number.
	 */
	sequence = port_load(&il->feed->sequence);
	if (!ring_clears(il, from, sequence, start, end))
		/* the writer may have become blind meanwhile */
		return is_blind(il) ? INVLOCK_UNSETTLED : INVLOCK_STALE;
	if (quiet)
		port_store(&snap->words, words);
	port_store(&snap->sequence, sequence);
	return INVLOCK_VALID;
}
