// SPDX-License-Identifier: MIT
/* Blind windows: what the ring proves across one, and the account of a CPU's window. */
#include "memory.h"
#include "core/blind.h"
#include "core/read.c"

static struct invlock_feed feed;
static u64 word;
static struct invlock_event slots[SLOTS];
static struct invlock il = {
	.feed = &feed, .words = &word, .events = slots, .event_mask = SLOTS - 1,
	.stripe_shift = 21,
};

/* Any state that a ring may be in: see ring.c. */
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

/*
 * A reader of any range, any number of events behind, during and after the events of other writers.
 */
void the_ring_clears_only_windows_that_have_ended_and_missed_nothing(void)
{
	u64 from = any_u64(), to = any_u64(), start = any_u64(), end = any_u64();
	bool ended = any_u64() & 1, missed = any_u64() & 1;
	u64 number, event;

	any_ring();
	number = feed.sequence + 1;
	event = invlock_blind_start(&il);
	claim(!event || event == number, "its number");
	for (u32 n = 1; n < EVENTS; n++)
		invlock_record(&il, any_u64(), any_u64(), 0, 0, 0);
	if (ended)
		invlock_blind_end(&il, event, missed);
	assume(start < end && from < number && number <= to && to <= feed.sequence);
	claim(!ring_clears(&il, from, to, start, end) || (ended && !missed), "nothing else");
}

/* If no other event comes, a window in which nothing was missed costs nothing. */
void a_window_that_missed_nothing_is_cleared(void)
{
	u64 start = any_u64(), end = any_u64(), number, event;

	any_ring();
	number = feed.sequence + 1;
	event = invlock_blind_start(&il);
	invlock_blind_end(&il, event, false);
	assume(start < end && event);
	claim(ring_clears(&il, number - 1, number, start, end), "a range is cleared");
}

void a_window_leaves_the_words_as_they_were_but_for_a_generation(void)
{
	u64 wide = any_u64(), blind = any_u64(), event;

	assume((wide & INVLOCK_RUNNING_MASK) < INVLOCK_RUNNING_LIMIT);
	any_ring();
	feed.wide = wide;
	feed.blind = blind;
	event = invlock_blind_start(&il);
	claim((feed.wide & INVLOCK_RUNNING_MASK) == (wide & INVLOCK_RUNNING_MASK) + 1, "it runs");
	claim(feed.blind == blind + 1, "an open window raises blind");
	invlock_blind_end(&il, event, any_u64() & 1);
	claim(feed.wide == wide + INVLOCK_GENERATION, "a window leaves a generation in wide");
	claim(feed.blind == blind, "the end of a window lowers blind");
}

#define STEPS	7

/*
 * A CPU on which a task is preempted inside a program, others are skipped, and a task looks and
 * closes, in any order. But a run is skipped only while a window is open: rule 1.
 */
void a_window_says_what_was_skipped_in_it(void)
{
	struct invlock_blind w = { .closed_misses = any_u64() };
	u64 misses = w.closed_misses, skipped = 0, lost;
	struct invlock_blind_seen seen = {};

	feed.wide = any_u64();
	assume((feed.wide & INVLOCK_RUNNING_MASK) < INVLOCK_RUNNING_LIMIT);
	il.events = NULL;
	for (u32 i = 0; i < STEPS; i++) {
		switch (any_u64() & 3) {
		case 0:
			skipped = w.number ? skipped : 0;
			claim(invlock_blind_raise(&il, &w, misses), "all skips lie in windows");
			break;
		case 1:
			misses += !!w.number;
			skipped += !!w.number;
			break;
		case 2:
			seen = invlock_blind_look(&w);
			break;
		case 3:
			lost = feed.lost;
			if (!seen.number || !invlock_blind_close(&il, &w, seen, misses))
				break;
			claim(feed.lost - lost == !!skipped, "a close reports skipped runs");
			/* the next close needs a new look */
			seen.number = 0;
			break;
		}
		claim(feed.blind == !!w.number, "the feed is blind while the window is open");
	}
	claim(!feed.flags, "the feed is not closed");
}
