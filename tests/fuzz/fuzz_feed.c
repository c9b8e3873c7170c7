// SPDX-License-Identifier: MIT
/*
 * Feeds of two sorts. A hostile feed has any header and any content, and a writer that changes both
 * while they are read: a reader that has attached must stay inside the mapping, which ends at a
 * guard page, and must terminate. A torn feed has honest writers, each of which may stop for ever
 * between any two of its steps: once a writer has finished its start, no older translation of its
 * range is valid.
 */
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "core/invalidate.h"
#include "core/section.h"
#include "fuzz.h"
#include "tests/page.h"

#define MAX_OPS		300u
#define MAX_BYTES	(64u << 10)
#define NR_WRITERS	4u
#define NR_READERS	6u
#define PAGE_SHIFT	12
#define NR_PAGES	64u

static bool no_bounds;
static u8 *guard;	/* the page behind the feed */

const char *const fuzz_plants[] = { "bounds", NULL };

void fuzz_plant(const char *name)
{
	no_bounds = !strcmp(name, "bounds");
}

/* ---- hostile ---- */

/* A reader that trusts the header. */
static int attach_without_bounds(struct invlock *il, u8 *mem)
{
	struct invlock_feed *feed = (struct invlock_feed *)mem;

	*il = (struct invlock){
		.feed = feed,
		.words = (u64 *)(mem + (feed->words_offset & ~7u)),
		.events = (struct invlock_event *)(mem + (feed->events_offset & ~7u)),
		.word_mask = feed->nr_words - 1,
		.event_mask = feed->nr_events - 1,
		.stripe_shift = feed->stripe_shift & 63,
	};
	return 0;
}

static void patch(struct bytes *b, u8 *mem, u64 bytes)
{
	u64 at = byte(b) | byte(b) << 8, value = word(b);
	u32 size = 1 << byte(b) % 4;

	/* Hit the header's fields more often than its padding. */
	if (at & 1)
		at %= 256;
	if (at + size <= bytes)
		memcpy(mem + at, &value, size);
}

static void read_hostile(struct bytes *b, const struct invlock *il, u8 *mem, u64 bytes)
{
	const struct invlock_budget budget = { .rounds = 2, .time_ns = 1 };
	struct invlock_snapshot snap = {};
	struct invlock_section s;
	u64 start, end;

	for (u32 nr = 0; nr < MAX_OPS && b->at < b->end; nr++) {
		start = word(b);
		end = byte(b) & 1 ? word(b) : start + (1ULL << byte(b) % 48);
		if (start >= end)
			continue;
		invlock_sample(il, start, end, &snap);
		patch(b, mem, bytes);
		invlock_validate(il, &snap, start, end);
		invlock_section_init(&s, il, start, end, &budget, 0);
		if (invlock_attempt(&s)) {
			patch(b, mem, bytes);
			invlock_commit(&s);
		}
	}
}

static void hostile(struct bytes *b)
{
	u32 nr_words = 1 << byte(b) % 8, nr_events = byte(b) % 8 ? 1 << byte(b) % 8 : 0;
	u64 bytes = (invlock_feed_bytes(nr_words, nr_events) + 63) & ~63ULL;
	u8 *mem = guard - bytes;
	struct invlock il;

	memset(mem, 0, bytes);
	if (invlock_feed_format(mem, bytes, nr_words, nr_events, 12 + byte(b) % 29))
		abort();
	for (u32 nr = byte(b) % 8; nr; nr--)
		patch(b, mem, bytes);
	if (no_bounds ? attach_without_bounds(&il, mem) : invlock_attach(&il, mem, bytes))
		return;
	if (!no_bounds)
		FUZZ_CHECK((u8 *)(il.words + il.word_mask + 1) <= guard &&
			   (!il.events || (u8 *)(il.events + il.event_mask + 1) <= guard),
			   "%u words, %u events", il.word_mask, il.event_mask);
	read_hostile(b, &il, mem, bytes);
}

/* ---- torn ---- */

struct torn_range {
	u64 start, end;
};

/* A writer, and how far it is. Its steps are those of <invlock/feed.h>. */
struct torn_writer {
	struct torn_range range;
	u64 seq;
	struct invlock_event *ev;
	enum { IDLE, MARKED, NUMBERED, CLAIMED, HALF, FILLED, RUNNING } at;
};

struct torn_reader {
	struct torn_range range;
	struct invlock_snapshot snap;
	bool used;
	bool stale;	/* a change of the range has finished its start */
};

static struct invlock il;
static struct torn_writer writers[NR_WRITERS];
static struct torn_reader readers[NR_READERS];
static bool closed;

static struct torn_range read_range(struct bytes *b)
{
	u64 first = byte(b) % NR_PAGES, nr = 1 + byte(b) % NR_PAGES;

	return (struct torn_range){ first << PAGE_SHIFT, (first + nr) << PAGE_SHIFT };
}

static bool overlap(struct torn_range a, struct torn_range b)
{
	return a.start < b.end && b.start < a.end;
}

/* From here on, all that a finished start promises must hold. */
static void begun(struct torn_range range)
{
	for (u32 i = 0; i < NR_READERS; i++)
		readers[i].stale |= overlap(readers[i].range, range);
}

static void write_step(struct torn_writer *w, struct bytes *b)
{
	u64 seen;

	switch (w->at) {
	case IDLE:
		w->range = read_range(b);
		invlock_words_add(&il, w->range.start, w->range.end, INVLOCK_START);
		w->at = MARKED;
		break;
	case MARKED:
		w->seq = port_fetch_add(&il.feed->sequence, 1) + 1;
		w->at = il.events ? NUMBERED : RUNNING;
		break;
	case NUMBERED:
		w->ev = &il.events[w->seq & il.event_mask];
		seen = port_load(&w->ev->seq);
		if (seen & INVLOCK_EVENT_BUSY || seen >= w->seq) {
			w->at = RUNNING;
			break;
		}
		port_store(&w->ev->seq, w->seq | INVLOCK_EVENT_BUSY);
		w->at = CLAIMED;
		break;
	case CLAIMED:
		port_store(&w->ev->start, w->range.start);
		w->at = HALF;
		break;
	case HALF:
		port_store(&w->ev->end, w->range.end);
		w->at = FILLED;
		break;
	case FILLED:
		port_store_release(&w->ev->seq, w->seq);
		w->at = RUNNING;
		break;
	case RUNNING:
		invlock_inv_end(&il, w->range.start, w->range.end);
		w->at = IDLE;
		return;
	}
	if (w->at == RUNNING)
		begun(w->range);
}

static bool is_running(struct torn_range range)
{
	for (u32 i = 0; i < NR_WRITERS; i++)
		if (writers[i].at == RUNNING && overlap(writers[i].range, range))
			return true;
	return closed;
}

static void sample(struct torn_reader *r, struct bytes *b)
{
	struct torn_range range = read_range(b);

	if (invlock_sample(&il, range.start, range.end, &r->snap)) {
		r->used = false;
		return;
	}
	FUZZ_CHECK(!is_running(range), "a sample was taken in the middle of a change");
	r->range = range;
	r->used = true;
	r->stale = false;
}

static void validate(struct torn_reader *r)
{
	if (!r->used)
		return;
	if (invlock_validate(&il, &r->snap, r->range.start, r->range.end) == INVLOCK_VALID)
		FUZZ_CHECK(!r->stale, "valid, and changed");
}

/* Makes a whole change. */
static void change(struct bytes *b)
{
	struct torn_range range = read_range(b);

	invlock_inv_start(&il, range.start, range.end, INVLOCK_KIND_UNMAP, 0, 0);
	begun(range);
	for (u32 i = 0; i < NR_READERS; i++)
		validate(&readers[i]);
	invlock_inv_end(&il, range.start, range.end);
}

static void step(struct bytes *b)
{
	const struct torn_range everything = { 0, ~0ULL };
	u8 op = byte(b);

	switch (op & 7) {
	case 0:
	case 1:
	case 2:
		write_step(&writers[op >> 3 & (NR_WRITERS - 1)], b);
		break;
	case 3:
	case 4:
		sample(&readers[(op >> 3) % NR_READERS], b);
		break;
	case 5:
		validate(&readers[(op >> 3) % NR_READERS]);
		break;
	case 6:
		change(b);
		break;
	case 7:
		if (op == 0xff) {
			invlock_close_feed(&il, INVLOCK_FEED_DEGRADED);
			closed = true;
		} else if (op > 0xe0) {
			invlock_lose(&il);
		} else {
			break;
		}
		begun(everything);
		break;
	}
}

/* Every writer continues to its end: after that, everything can be sampled. */
static void come_to_rest(struct bytes *b)
{
	struct invlock_snapshot snap;

	for (u32 i = 0; i < NR_WRITERS; i++)
		while (writers[i].at != IDLE)
			write_step(&writers[i], b);
	for (u32 i = 0; i < NR_READERS; i++)
		validate(&readers[i]);
	FUZZ_CHECK(!invlock_sample(&il, 0, 2 * NR_PAGES << PAGE_SHIFT, &snap) == !closed,
		   "no writer runs, and the range cannot be sampled");
}

static void torn(struct bytes *b)
{
	u32 nr_words = 1 << byte(b) % 6, nr_events = byte(b) % 8 ? 1 << byte(b) % 6 : 0;
	u64 bytes = (invlock_feed_bytes(nr_words, nr_events) + 63) & ~63ULL;
	u8 *mem = guard - bytes;

	memset(mem, 0, bytes);
	if (invlock_feed_format(mem, bytes, nr_words, nr_events, 12 + byte(b) % 8) ||
	    invlock_attach(&il, mem, bytes))
		abort();
	/* an old feed: its counters may have any value, and a word's generation may wrap */
	il.feed->sequence = word(b) >> 2;
	il.feed->wide = word(b) & ~INVLOCK_RUNNING_MASK;
	il.words[0] = word(b) & ~INVLOCK_RUNNING_MASK;
	memset(writers, 0, sizeof(writers));
	memset(readers, 0, sizeof(readers));
	closed = false;
	for (u32 nr = 0; nr < MAX_OPS && b->at < b->end; nr++)
		step(b);
	for (u32 i = 0; i < NR_READERS; i++)
		validate(&readers[i]);
	come_to_rest(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = { data, data + size };

	if (!guard) {
		if (getenv("INVLOCK_FUZZ_PLANT"))
			fuzz_plant(getenv("INVLOCK_FUZZ_PLANT"));
		guard = mmap(NULL, MAX_BYTES + PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (guard == MAP_FAILED || mprotect(guard + MAX_BYTES, PAGE, PROT_NONE))
			abort();
		guard += MAX_BYTES;
	}
	if (byte(&b) & 1)
		hostile(&b);
	else
		torn(&b);
	return 0;
}
