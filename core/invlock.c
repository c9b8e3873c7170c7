// SPDX-License-Identifier: GPL-2.0-only OR MIT
#include "invlock.h"

#define MAX_WORDS	(1u << 20)
#define MAX_EVENTS	(1u << 24)
#define MIN_SHIFT	12
#define MAX_SHIFT	40

static bool power_of_two(u32 n)
{
	return n && !(n & (n - 1));
}

static bool geometry_ok(u32 nr_words, u32 nr_events)
{
	return power_of_two(nr_words) && nr_words <= MAX_WORDS &&
	       (!nr_events || power_of_two(nr_events)) && nr_events <= MAX_EVENTS;
}

u64 invlock_feed_bytes(u32 nr_words, u32 nr_events)
{
	if (!geometry_ok(nr_words, nr_events))
		return 0;
	return INVLOCK_FEED_HEADER_SIZE + nr_words * sizeof(u64) +
	       nr_events * (u64)sizeof(struct invlock_event);
}

int invlock_feed_format(void *mem, u64 bytes, u32 nr_words, u32 nr_events, u32 stripe_shift)
{
	struct invlock_feed *feed = mem;
	u64 need = invlock_feed_bytes(nr_words, nr_events);

	if (!mem || !need || bytes < need || stripe_shift < MIN_SHIFT || stripe_shift > MAX_SHIFT)
		return -EINVAL;
	feed->size = INVLOCK_FEED_HEADER_SIZE;
	feed->version = INVLOCK_FEED_VERSION;
	feed->feed_size = need;
	feed->nr_words = nr_words;
	feed->nr_events = nr_events;
	feed->stripe_shift = stripe_shift;
	feed->words_offset = INVLOCK_FEED_HEADER_SIZE;
	feed->events_offset = INVLOCK_FEED_HEADER_SIZE + nr_words * (u32)sizeof(u64);
	feed->magic = INVLOCK_FEED_MAGIC;
	return 0;
}

/* does an array of @nr items at @offset lie behind the header and inside @bytes? */
static bool inside(u32 offset, u32 nr, u64 item, u64 bytes)
{
	return !(offset & 7) && offset >= INVLOCK_FEED_HEADER_SIZE && offset <= bytes &&
	       nr * item <= bytes - offset;
}

int invlock_attach(struct invlock *il, void *mem, u64 bytes)
{
	struct invlock_feed *feed = mem;
	u32 nr_words, nr_events, shift, words_offset, events_offset;
	u64 feed_size;

	if (!mem || bytes < INVLOCK_FEED_HEADER_SIZE || ((unsigned long)mem & 63))
		return -EINVAL;
	if (port_load(&feed->magic) != INVLOCK_FEED_MAGIC)
		return -EPROTO;
	if (port_load(&feed->version) != INVLOCK_FEED_VERSION)
		return -EPROTONOSUPPORT;
	/* each field is loaded once: a hostile writer may change it between two looks */
	nr_words = port_load(&feed->nr_words);
	nr_events = port_load(&feed->nr_events);
	shift = port_load(&feed->stripe_shift);
	words_offset = port_load(&feed->words_offset);
	events_offset = port_load(&feed->events_offset);
	feed_size = port_load(&feed->feed_size);
	if (port_load(&feed->size) != INVLOCK_FEED_HEADER_SIZE || feed_size > bytes ||
	    !geometry_ok(nr_words, nr_events) || shift < MIN_SHIFT || shift > MAX_SHIFT ||
	    !inside(words_offset, nr_words, sizeof(u64), feed_size) ||
	    (nr_events &&
	     !inside(events_offset, nr_events, sizeof(struct invlock_event), feed_size)))
		return -EPROTO;

	*il = (struct invlock){
		.feed = feed,
		.max_lag = nr_events ? (nr_events - 1) / 4 : 1u << 20,
		.words = (u64 *)((u8 *)mem + words_offset),
		.events = nr_events ? (struct invlock_event *)((u8 *)mem + events_offset) : NULL,
		.word_mask = nr_words - 1,
		.event_mask = nr_events ? nr_events - 1 : 0,
		.stripe_shift = shift,
	};
	return 0;
}
