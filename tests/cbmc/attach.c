// SPDX-License-Identifier: MIT
/* If a header with arbitrary content is accepted, all of the feed lies inside the mapped memory. */
#include "memory.h"
#include "core/invlock.c"

static struct invlock_feed feed;

void what_is_accepted_lies_inside(void)
{
	struct invlock il;
	u64 bytes = any_u64(), words, events;

	feed = (struct invlock_feed){
		.size = (u32)any_u64(), .version = (u32)any_u64(), .magic = any_u64(),
		.feed_size = any_u64(), .nr_words = (u32)any_u64(), .nr_events = (u32)any_u64(),
		.stripe_shift = (u32)any_u64(), .words_offset = (u32)any_u64(),
		.events_offset = (u32)any_u64(),
	};
	if (invlock_attach(&il, &feed, bytes))
		return;
	words = feed.words_offset + ((u64)il.word_mask + 1) * sizeof(u64);
	events = feed.events_offset + ((u64)il.event_mask + 1) * sizeof(struct invlock_event);
	claim(feed.words_offset >= INVLOCK_FEED_HEADER_SIZE && words <= bytes, "the words");
	claim(!il.events || (feed.events_offset >= INVLOCK_FEED_HEADER_SIZE && events <= bytes),
	      "the events");
	claim(!(il.word_mask & (il.word_mask + 1)) && !(il.event_mask & (il.event_mask + 1)),
	      "a mask is a power of two less 1");
	claim(il.stripe_shift >= 12 && il.stripe_shift <= 40, "the shift is within its limits");
}

void a_size_is_that_of_what_is_in_it(void)
{
	u32 nr_words = (u32)any_u64(), nr_events = (u32)any_u64();
	u64 bytes = invlock_feed_bytes(nr_words, nr_events);

	claim(!bytes || bytes == 4096 + 8 * (u64)nr_words + 40 * (u64)nr_events, "exactly");
	claim(bytes >> 32 == 0, "offsets fit in 32 bits");
}
