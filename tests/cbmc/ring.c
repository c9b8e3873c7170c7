// SPDX-License-Identifier: MIT
/*
 * The ring: a range that it clears had no overlap. Writers were interrupted anywhere, slots have
 * any content that a writer can leave, and a reader is any number of events behind. There are more
 * EVENTS than SLOTS, so the ring may be overrun.
 */
#include "memory.h"
#include "core/invalidate.h"
#include "core/read.c"

static struct invlock_feed feed;
static u64 word;
static struct invlock_event slots[SLOTS];
static const struct invlock il = {
	.feed = &feed, .words = &word, .events = slots, .event_mask = SLOTS - 1,
	.stripe_shift = 21,
};

/* The events in the slots have earlier numbers; each is complete, or still being written. */
static void any_ring(void)
{
	feed.sequence = any_u64();
	assume(feed.sequence < INVLOCK_EVENT_BUSY - EVENTS - 1);
	for (u32 i = 0; i < SLOTS; i++) {
		u64 number = any_u64();

		assume(number <= feed.sequence && (!number || (number & il.event_mask) == i));
		slots[i] = (struct invlock_event){
			.seq = any_u64() & 1 ? number : number | INVLOCK_EVENT_BUSY,
			.start = any_u64(), .end = any_u64(),
		};
	}
}

static u64 top(u64 start, u64 end)
{
	return end > start ? end : INVLOCK_ADDRESS_END;
}

void what_the_ring_clears_did_not_overlap(void)
{
	u64 start[EVENTS], end[EVENTS], first, from = any_u64(), to = any_u64();
	u64 reader_start = any_u64(), reader_end = any_u64();
	u32 i = any_u64() % EVENTS;

	any_ring();
	first = feed.sequence + 1;
	for (u32 n = 0; n < EVENTS; n++) {
		start[n] = any_u64();
		end[n] = any_u64();
		invlock_record(&il, start[n], end[n], 0, 0, 0);
	}
	assume(reader_start < reader_end && from < to && to <= feed.sequence);
	assume(first + i > from && first + i <= to);
	assume(start[i] < reader_end && reader_start < top(start[i], end[i]));
	claim(!ring_clears(&il, from, to, reader_start, reader_end), "an overlap is found");
}

void a_newer_event_or_one_being_written_is_left_alone(void)
{
	struct invlock_event before[SLOTS];
	u64 number;
	u32 at;

	any_ring();
	number = feed.sequence + 1;
	at = number & il.event_mask;
	/* Writers that came later and were faster may have reached the slot. */
	slots[at].seq = any_u64();
	before[at] = slots[at];
	invlock_record(&il, any_u64(), any_u64(), 0, 0, 0);
	claim(!(before[at].seq & INVLOCK_EVENT_BUSY || before[at].seq > number) ||
	      slots[at].seq == before[at].seq, "the slot keeps its number");
	claim(slots[at].seq == number || feed.dropped, "an event that was not written is counted");
}
