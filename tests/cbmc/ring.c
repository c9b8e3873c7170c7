// SPDX-License-Identifier: MIT
/*
 * The ring: what it clears did not overlap. Writers that were interrupted anywhere, slots with
 * anything in them that a writer can leave, a reader any number of events behind; EVENTS are
 * more than SLOTS: the ring is overrun.
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

/* whatever lies in the slots was numbered before: done, or still being written */
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
	claim(!ring_clears(&il, from, to, reader_start, reader_end), "an overlap is told");
}

void a_newer_event_or_one_being_written_is_left_alone(void)
{
	struct invlock_event before[SLOTS];
	u64 number;
	u32 at;

	any_ring();
	number = feed.sequence + 1;
	at = number & il.event_mask;
	/* the slot may have been reached by writers that came later and were faster */
	slots[at].seq = any_u64();
	before[at] = slots[at];
	invlock_record(&il, any_u64(), any_u64(), 0, 0, 0);
	claim(!(before[at].seq & INVLOCK_EVENT_BUSY || before[at].seq > number) ||
	      slots[at].seq == before[at].seq, "its number is still there");
	claim(slots[at].seq == number || feed.dropped, "what was not written is counted");
}
