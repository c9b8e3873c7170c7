/* SPDX-License-Identifier: MIT */
/*
 * A feed with two translations that were made before the run, and what threads do with them.
 *
 * A stripe is a page here, and page p has word p % nr_words.
 */
#ifndef INVLOCK_TESTS_SIM_LOCK_RIG_H
#define INVLOCK_TESTS_SIM_LOCK_RIG_H

#include "cases.h"
#include "core/invalidate.h"
#include "core/section.h"

#define AT(page)	((u64)(page) << 12)
#define WIDE		(INVLOCK_MAX_SPAN + 1)	/* pages: too many for stripes */

static struct invlock il;
static struct invlock_snapshot *shared, *shared_2;	/* of pages 0 and 2, in version 0 */
static u32 *flags;

static inline void make_feed(u32 nr_words, u32 nr_events)
{
	u64 bytes = invlock_feed_bytes(nr_words, nr_events);
	void *feed = sim_alloc(bytes);

	SIM_CHECK(!invlock_feed_format(feed, bytes, nr_words, nr_events, 12));
	SIM_CHECK(!invlock_attach(&il, feed, bytes));
	flags = sim_alloc(4 * sizeof(*flags));
	shared = sim_alloc(sizeof(*shared));
	SIM_CHECK(!invlock_sample(&il, AT(0), AT(1), shared));
	shared_2 = sim_alloc(sizeof(*shared_2));
	SIM_CHECK(!invlock_sample(&il, AT(2), AT(3), shared_2));
	sim_name(&il.feed->sequence, 8, "sequence");
	sim_name(&il.feed->wide, 8, "wide");
	sim_name(&il.feed->flags, 8, "flags");
	sim_name(il.words, nr_words * 8, "word");
	sim_name(il.events, nr_events * sizeof(*il.events), "event");
	sim_name(shared, sizeof(*shared), "snapshot");
	sim_name(shared_2, sizeof(*shared_2), "snapshot-2");
	sim_name(flags, 4 * sizeof(*flags), "flag");
}

static inline void ring_of_2(void) { make_feed(2, 2); }

/* Makes one change of the map, as a monitor reports it; its result is seen in page @seen. */
static inline void change_seen_in(u32 page, u32 nr_pages, u32 seen)
{
	u32 name;

	invlock_inv_start(&il, AT(page), AT(page + nr_pages), INVLOCK_KIND_UNMAP, 1, 0);
	name = sim_change_begins(seen);
	sim_change_made(name, SIM_FENCED);
	invlock_inv_end(&il, AT(page), AT(page + nr_pages));
}

static inline void change(u32 page, u32 nr_pages)
{
	change_seen_in(page, nr_pages, page);
}

static const struct invlock_budget three_rounds = { .rounds = 3, .time_ns = 1ULL << 60 };

static inline bool still_valid(struct invlock_snapshot *snap, u32 page, u32 nr_pages,
			const u32 *versions)
{
	u32 known = sim_known_changes();
	enum invlock_verdict verdict = invlock_validate(&il, snap, AT(page), AT(page + nr_pages));

	sim_note("validate says %s", verdict == INVLOCK_VALID ? "valid" : "stale");
	for (u32 i = 0; verdict == INVLOCK_VALID && i < nr_pages; i++)
		sim_must_be_current(known, page + i, versions[i]);
	return verdict == INVLOCK_VALID;
}

/* Translates nr_pages from page on, looks at the page, and validates once more. */
static inline void translate(u32 page, u32 nr_pages, const struct invlock_budget *budget,
		      bool locked)
{
	u32 versions[2], known = 0, rounds = 0;
	struct invlock_section s;
	bool committed = false;
	int err;

	invlock_section_init(&s, &il, AT(page), AT(page + nr_pages), budget, 0);
	while (invlock_attempt(&s)) {
		rounds++;
		if (locked)
			sim_lock(&flags[0]);
		for (u32 i = 0; i < nr_pages; i++)
			versions[i] = sim_map_read(page + i);
		if (locked)
			sim_unlock(&flags[0]);
		known = sim_known_changes();
		committed = invlock_commit(&s);
		sim_note("commit says %s", committed ? "publish" : "again");
		if (committed)
			break;
	}
	err = invlock_section_error(&s);
	SIM_CHECK(committed == !err);
	SIM_CHECK(!budget || rounds <= budget->rounds);
	SIM_CHECK(!budget || budget->time_ns > 1000000 || s.waits <= 2);
	SIM_CHECK(!err || err == -EBUSY || err == -EOWNERDEAD || err == -ENOTRECOVERABLE);
	SIM_CHECK(err != -EOWNERDEAD || port_load(&il.feed->flags) & INVLOCK_FEED_DEAD);
	SIM_CHECK(err != -ENOTRECOVERABLE || port_load(&il.feed->flags) & INVLOCK_FEED_DEGRADED);
	if (!committed)
		return;
	for (u32 i = 0; i < nr_pages; i++)
		sim_must_be_current(known, page + i, versions[i]);
	/* The program looks at its memory: the next answer must take account of what it saw. */
	sim_map_read(page + nr_pages - 1);
	still_valid(&s.snap, page, nr_pages, versions);
}

/* A hit on the translation of page 0 that was made before the run; several threads do this. */
static inline void hit(void)
{
	u32 version = 0;

	sim_map_read(0);
	still_valid(shared, 0, 1, &version);
}

static inline void nothing_runs(void)
{
	SIM_CHECK(!(il.feed->wide & INVLOCK_RUNNING_MASK));
	for (u32 i = 0; i <= il.word_mask; i++)
		SIM_CHECK(!(il.words[i] & INVLOCK_RUNNING_MASK));
}

/* At the end: a snapshot that validates must be current, and no word is running. */
static inline void all_quiet(void)
{
	u32 known = sim_known_changes();

	nothing_runs();
	if (invlock_validate(&il, shared, AT(0), AT(1)) == INVLOCK_VALID)
		sim_must_be_current(known, 0, 0);
	if (invlock_validate(&il, shared_2, AT(2), AT(3)) == INVLOCK_VALID)
		sim_must_be_current(known, 2, 0);
}

/* With two threads everything is explored. With three, the quick run has these bounds. */
#define FULLY	SIM_ALL, -1, -1
#define BOUNDED	SIM_ALL, 3, 2
#define NARROWLY SIM_ALL, 2, 2

#endif /* INVLOCK_TESTS_SIM_LOCK_RIG_H */
