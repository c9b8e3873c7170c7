/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The invalidation lock: a view of a feed, and how to make one.
 *
 * A feed (include/uapi/invlock/feed.h) is memory. A struct invlock is where one
 * user of it keeps the checked geometry, so that nothing that is read from
 * shared memory is ever used as an index again.
 *
 * Writers:	invalidate.h
 * Readers:	read.h (sample and validate), section.h (the loop around them)
 */
#ifndef INVLOCK_CORE_INVLOCK_H
#define INVLOCK_CORE_INVLOCK_H

#include "port.h"
#include <invlock/feed.h>

/**
 * struct invlock - a view of one feed
 * @feed: its header
 * @max_lag: a snapshot that lags behind by more events than this is refreshed: early enough for
 *	the ring to prove it, and far from a wrap
 * @words: the stripes' words
 * @events: the ring; NULL when the feed has none
 * @word_mask: number of words - 1
 * @event_mask: number of events - 1
 * @stripe_shift: log2 of a stripe's bytes
 * @settle: asked before the words are trusted, for a writer that marks a change
 *	only after it was made: false while such a change is in flight. NULL when
 *	the writer marks every change before it is made.
 * @settle_arg: its argument
 * @nudge: NULL, or called now and then while a reader waits for the words to become quiet: a
 *	writer that was blind may see again without having noticed it yet
 * @nudge_arg: its argument
 */
struct invlock {
	struct invlock_feed *feed;
	u64 max_lag;
	u64 *words;
	struct invlock_event *events;
	u32 word_mask;
	u32 event_mask;
	u32 stripe_shift;
	bool (*settle)(void *arg);
	void *settle_arg;
	void (*nudge)(void *arg);
	void *nudge_arg;
};

/**
 * invlock_feed_bytes() - memory that a feed needs
 * @nr_words: a power of two, 1 to 2^20
 * @nr_events: a power of two up to 2^24, or 0 for no ring
 *
 * Context: any. Return: bytes, or 0 when an argument is out of range. Since: 0.1
 */
u64 invlock_feed_bytes(u32 nr_words, u32 nr_events);

/**
 * invlock_feed_format() - make an empty feed
 * @mem: zeroed memory, 64-byte aligned
 * @bytes: its size, at least invlock_feed_bytes()
 * @nr_words: as for invlock_feed_bytes()
 * @nr_events: as for invlock_feed_bytes()
 * @stripe_shift: 12 to 40
 *
 * Context: any, never sleeps. Locks: nobody else may use @mem yet.
 * Return: 0; -EINVAL for an argument out of range. Since: 0.1
 */
int invlock_feed_format(void *mem, u64 bytes, u32 nr_words, u32 nr_events, u32 stripe_shift);

/**
 * invlock_attach() - check the header of a feed, and make a view of it
 * @il: filled on success only, with no settle hook
 * @mem: the feed
 * @bytes: how much of it is mapped
 *
 * Trusts nothing: every size and offset in the header is checked against @bytes.
 * Context: any, never sleeps.
 * Return: 0; -EINVAL for NULL, too little memory, or a misaligned address;
 * -EPROTO for a header that is not a feed's or contradicts itself;
 * -EPROTONOSUPPORT for another version. Since: 0.1
 */
int invlock_attach(struct invlock *il, void *mem, u64 bytes);

#endif /* INVLOCK_CORE_INVLOCK_H */
