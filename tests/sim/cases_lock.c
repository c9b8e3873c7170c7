// SPDX-License-Identifier: MIT
/* The lock: invalidations against sections, validations and waits. */
#include "lock_rig.h"

static void ring_of_1(void) { make_feed(2, 1); }
static void no_ring(void) { make_feed(2, 0); }
static void four_words(void) { make_feed(4, 0); }

static void change_0(void) { change(0, 1); }
static void change_1(void) { change(1, 1); }
static void change_2(void) { change(2, 1); }	/* shares the word of page 0 */
static void change_0_and_2(void) { change(0, 1); change(2, 1); }
static void change_2_and_0(void) { change(2, 1); change(0, 1); }
static void change_2_and_2(void) { change(2, 1); change(2, 1); }
static void change_0_to_1(void) { change_seen_in(0, 2, 1); }
/* A change that was decoded wrongly, or reaches to the top of the address space. */
static void change_to_the_top(void)
{
	u32 name;

	invlock_inv_start(&il, AT(0), 0, INVLOCK_KIND_BRK, 1, 0);
	name = sim_change_begins(0);
	sim_change_made(name, SIM_FENCED);
	invlock_inv_end(&il, AT(0), 0);
}

static void change_wide(void) { change(0, WIDE); }
static void change_wide_elsewhere(void) { change(8, WIDE); }

/* A change that cannot be recorded: the loss is marked before the change is made. */
static void change_lost(void)
{
	u32 name;

	invlock_lose(&il);
	name = sim_change_begins(0);
	sim_change_made(name, SIM_FENCED);
}

/* The same with the rule for truncation: meanwhile the page is locked against translators. */
static void truncate_0(void)
{
	u32 name;

	sim_lock(&flags[0]);
	invlock_inv_start(&il, AT(0), AT(1), INVLOCK_KIND_TRUNCATE, 1, 0);
	name = sim_change_begins(0);
	invlock_inv_end(&il, AT(0), AT(1));
	sim_change_made(name, SIM_FENCED);
	sim_unlock(&flags[0]);
}

/*
 * A monitor that learns of a change after it was made: the settle hook knows that one is under way.
 */
static void change_marked_late(void)
{
	u32 name;

	sim_fetch_add(&flags[0], sizeof(u32), 1, SIM_FULL);
	name = sim_change_begins(0);
	sim_change_made(name, SIM_FENCED);
	invlock_inv_start(&il, AT(0), AT(1), INVLOCK_KIND_UNMAP, 1, 0);
	invlock_inv_end(&il, AT(0), AT(1));
	sim_fetch_add(&flags[0], sizeof(u32), -1, SIM_FULL);
}

static bool nothing_is_being_made(void *arg)
{
	return !port_load_acquire((u32 *)arg);
}

static void late_marks(void)
{
	make_feed(2, 2);
	il.settle = nothing_is_being_made;
	il.settle_arg = &flags[0];
}

/*
 * As the kernel does it: the feed is written under one lock, flags[0], without atomics, and the
 * page table is changed under another, flags[1].
 */
static void change_in_the_kernel(u32 page, u32 nr_pages)
{
	u32 name;

	sim_lock(&flags[0]);
	serial_inv_start(&il, AT(page), AT(page + nr_pages));
	sim_unlock(&flags[0]);
	sim_lock(&flags[1]);
	name = sim_change_begins(page);
	sim_change_made(name, SIM_RELEASE);
	sim_unlock(&flags[1]);
	sim_lock(&flags[0]);
	serial_inv_end(&il, AT(page), AT(page + nr_pages));
	sim_unlock(&flags[0]);
}

static void kernel_0(void) { change_in_the_kernel(0, 1); }
static void kernel_2(void) { change_in_the_kernel(2, 1); }
static void kernel_wide(void) { change_in_the_kernel(0, WIDE); }
static void kernel_0_and_2(void) { kernel_0(); kernel_2(); }
static void kernel_2_and_0(void) { kernel_2(); kernel_0(); }

static void kernel_dies(void)
{
	sim_lock(&flags[0]);
	serial_close_feed(&il, INVLOCK_FEED_DEAD);
	sim_unlock(&flags[0]);
	sim_lock(&flags[1]);
	sim_change_made(sim_change_begins(0), SIM_RELEASE);
	sim_unlock(&flags[1]);
}

/* The feed is closed; nothing is recorded afterwards. */
static void close_and_change(u64 flag)
{
	u32 name;

	invlock_close_feed(&il, flag);
	name = sim_change_begins(0);
	sim_change_made(name, SIM_RELEASE);
}

static void degrade(void) { close_and_change(INVLOCK_FEED_DEGRADED); }
static void die(void) { close_and_change(INVLOCK_FEED_DEAD); }

/* The work fails each time, which costs rounds as a collision does. */
static void undo_0(void)
{
	const struct invlock_budget budget = { .rounds = 2, .time_ns = 1ULL << 60 };
	struct invlock_section s;
	u32 rounds = 0;

	invlock_section_init(&s, &il, AT(0), AT(1), &budget, 0);
	for (; invlock_attempt(&s); rounds++)
		invlock_undo(&s);
	SIM_CHECK(rounds == 2 && s.collisions == 2 && invlock_section_error(&s) == -EBUSY);
	/* A round that was undone leaves nothing to commit. */
	SIM_CHECK(!invlock_commit(&s) && invlock_section_error(&s) == -EINVAL);
}

static const struct invlock_budget one_round = { .rounds = 1, .time_ns = 1ULL << 60 };
static const struct invlock_budget short_time = { .rounds = 9, .time_ns = 1000000 };

static void translate_0(void) { translate(0, 1, &three_rounds, false); }
static void translate_0_once(void) { translate(0, 1, &one_round, false); }
static void translate_0_in_time(void) { translate(0, 1, &short_time, false); }
static void translate_0_locked(void) { translate(0, 1, &three_rounds, true); }
static void translate_1(void) { translate(1, 1, &three_rounds, false); }
static void translate_0_1(void) { translate(0, 2, &three_rounds, false); }

/* Translates page 0, and only then learns which page it is: the snapshot is as of before. */
static void translate_since(const struct invlock_snapshot *all)
{
	struct invlock_snapshot snap;
	u32 version = sim_map_read(0);
	u32 known = sim_known_changes();

	if (!invlock_sample_as_of(&il, all, AT(0), AT(1), &snap))
		return;
	sim_must_be_current(known, 0, version);
	sim_map_read(0);
	still_valid(&snap, 0, 1, &version);
}

static void translate_before(void)
{
	struct invlock_snapshot all;

	if (!invlock_sample(&il, 0, INVLOCK_ADDRESS_END, &all))
		translate_since(&all);
}

/* The earlier snapshot is of the beginning: a change that is lost makes only what was, stale. */
static void translate_before_all(void)
{
	struct invlock_snapshot all;

	if (!invlock_sample(&il, 0, INVLOCK_ADDRESS_END, &all) && !all.words)
		translate_since(&all);
}

static void hit_2(void)
{
	u32 version = 0;

	sim_map_read(2);
	still_valid(shared_2, 2, 1, &version);
}

static void hit_twice(void)
{
	hit();
	hit();
}

/* Page 0 did not change: only an event that is being written may cost the entry. */
static void hit_surely(void)
{
	u32 version = 0, relaxed = sim_relaxed();

	if (!still_valid(shared, 0, 1, &version) && sim_relaxed() == relaxed)
		sim_fail("a translation was called stale for no reason");
}

/* Page 0 did not change, whatever happened around it: the entry must still be valid. */
static void kept(void)
{
	all_quiet();
	SIM_CHECK(invlock_validate(&il, shared, AT(0), AT(1)) == INVLOCK_VALID);
}

static void closed(void)
{
	struct invlock_snapshot snap;

	SIM_CHECK(invlock_validate(&il, shared, AT(0), AT(1)) == INVLOCK_STALE);
	SIM_CHECK(invlock_sample(&il, AT(0), AT(1), &snap) ==
		  (il.feed->flags & INVLOCK_FEED_DEAD ? -EOWNERDEAD : -ENOTRECOVERABLE));
}

static void closed_for_both_reasons(void)
{
	closed();
	SIM_CHECK(il.feed->flags == (INVLOCK_FEED_DEAD | INVLOCK_FEED_DEGRADED));
}

const struct sim_case lock_cases[] = {
	{ "section", "a section never publishes what a running change makes stale",
	  FULLY, ring_of_2, { { "change", change_0 }, { "translate", translate_0 } }, all_quiet },
	{ "section-twice", "a section publishes nothing stale between two overlapping changes",
	  BOUNDED, no_ring, { { "change", change_0 }, { "change-2", change_0 },
			      { "translate", translate_0 } }, all_quiet },
	{ "two-words", "a range of two words is checked in both",
	  BOUNDED, no_ring, { { "change-0", change_0 }, { "change-1", change_1 },
			      { "translate", translate_0_1 } }, all_quiet },
	{ "two-of-four", "a range of two words is checked in both when there are other words",
	  BOUNDED, four_words, { { "change-0", change_0 }, { "change-1", change_1 },
				 { "translate", translate_0_1 } }, all_quiet },
	{ "two-stripes", "a change of two stripes is seen in the second",
	  FULLY, ring_of_2, { { "change-0-1", change_0_to_1 }, { "translate", translate_1 } },
	  all_quiet },
	{ "wide", "a change too wide for words is seen",
	  FULLY, ring_of_2, { { "wide", change_wide }, { "translate", translate_0 } }, all_quiet },
	{ "hit", "a hit is never valid after a change began that the thread could know of",
	  FULLY, ring_of_2, { { "change", change_0 }, { "hit", hit_twice } }, all_quiet },
	{ "hit-no-ring", "without a ring a hit is never valid after a change that it could know of",
	  FULLY, no_ring, { { "change", change_0 }, { "hit", hit_twice } }, all_quiet },
	{ "hit-wide", "a hit is never valid after a wide change began that it could know of",
	  FULLY, ring_of_2, { { "wide", change_wide }, { "hit", hit_twice } }, all_quiet },
	{ "lost", "a change that was lost makes every translation stale",
	  FULLY, ring_of_2, { { "lost", change_lost }, { "hit", hit_twice } }, all_quiet },
	{ "lost-beside", "a proof by the ring does not absorb a change that is being lost",
	  NARROWLY, ring_of_2, { { "lost", change_lost }, { "neighbour", change_2 },
				 { "hit", hit_twice } }, all_quiet },
	{ "degrade", "a closed feed says stale, and sections say why",
	  FULLY, ring_of_2, { { "degrade", degrade }, { "translate", translate_0 } }, closed },
	{ "close-twice", "a writer that finds the feed closed may rely on that",
	  FULLY, ring_of_2, { { "degrade", degrade }, { "degrade-2", degrade }, { "hit", hit } },
	  closed },
	{ "close-both", "if two writers close the feed, neither reason is forgotten",
	  FULLY, ring_of_2, { { "degrade", degrade }, { "die", die } }, closed_for_both_reasons },
	{ "to-the-top", "a change without an end reaches to the top of the address space",
	  FULLY, ring_of_2, { { "change", change_to_the_top }, { "hit", hit_twice } }, all_quiet },
	{ "die", "a dead mm ends waits and sections",
	  BOUNDED, no_ring, { { "change", change_0 }, { "die", die },
			      { "translate", translate_0 } }, closed },
	{ "ring-same-word", "a neighbour's event is not mistaken for one of ours",
	  FULLY, ring_of_2, { { "neighbour", change_2_and_0 }, { "hit", hit_twice } }, all_quiet },
	{ "ring-ours-first", "an event of ours is found behind a neighbour's",
	  FULLY, ring_of_2, { { "ours-first", change_0_and_2 }, { "hit", hit_twice } }, all_quiet },
	{ "ring-race", "a proof never absorbs an event that it did not scan",
	  NARROWLY, ring_of_2, { { "change", change_0 }, { "neighbour", change_2 },
				{ "hit", hit } }, all_quiet },
	{ "ring-overrun", "a ring that was overrun proves nothing",
	  NARROWLY, ring_of_1, { { "change", change_0 }, { "neighbour", change_2 },
				{ "hit", hit } }, all_quiet },
	{ "ring-reused", "a slot that is overwritten is not mistaken for the old event",
	  FULLY, ring_of_1, { { "ours-first", change_0_and_2 }, { "hit", hit_twice } }, all_quiet },
	{ "ring-reused-below", "a mixture of an old event and a new one is never used",
	  FULLY, ring_of_1, { { "ours-first", change_2_and_0 }, { "hit", hit_2 } }, all_quiet },
	{ "ring-wide", "a wide event elsewhere does not hide one of ours",
	  NARROWLY, ring_of_2, { { "change", change_0 },
				 { "wide-elsewhere", change_wide_elsewhere },
				 { "hit", hit } }, all_quiet },
	{ "truncate", "a change under a page lock needs only a mark before it is made",
	  FULLY, no_ring, { { "truncate", truncate_0 }, { "translate", translate_0_locked } },
	  all_quiet },
	{ "budget", "a section gives up when its rounds are spent",
	  BOUNDED, no_ring, { { "change", change_0 }, { "change-2", change_0 },
			      { "translate", translate_0_once } }, all_quiet },
	{ "time", "a section gives up when its time is spent",
	  BOUNDED, no_ring, { { "change", change_0 }, { "change-2", change_0 },
			      { "translate", translate_0_in_time } }, all_quiet },
	{ "settle", "a hit waits for the mark of a change that was already made",
	  FULLY, late_marks, { { "change", change_marked_late }, { "hit", hit_twice } },
	  all_quiet },
	{ "settle-section", "a section waits for the mark of a change that was already made",
	  FULLY, late_marks, { { "change", change_marked_late }, { "translate", translate_0 } },
	  all_quiet },
	{ "kernel", "a writer under a lock needs no atomics: a section publishes nothing stale",
	  FULLY, ring_of_2, { { "kernel", kernel_0 }, { "translate", translate_0 } }, all_quiet },
	{ "kernel-hit", "no hit is stale beside a writer under a lock, even after two changes",
	  FULLY, ring_of_2, { { "kernel", kernel_2_and_0 }, { "hit", hit_twice } }, all_quiet },
	{ "kernel-wide", "a wide change by a writer under a lock makes no hit stale",
	  FULLY, ring_of_2, { { "kernel", kernel_wide }, { "hit", hit_twice } }, all_quiet },
	{ "kernel-ring", "a writer under a lock may overwrite a slot of the ring",
	  FULLY, ring_of_1, { { "kernel", kernel_0_and_2 }, { "hit", hit_twice } }, all_quiet },
	{ "kernel-race", "two writers under a lock make no hit stale",
	  NARROWLY, ring_of_2, { { "kernel", kernel_0 }, { "kernel-2", kernel_2 },
				 { "hit", hit } }, all_quiet },
	{ "kernel-dies", "a writer under a lock can end the mm",
	  FULLY, ring_of_2, { { "kernel", kernel_dies }, { "translate", translate_0 } }, closed },
	{ "as-of", "a snapshot as of an earlier moment is never of what a change makes stale",
	  FULLY, ring_of_2, { { "change", change_0 }, { "translate", translate_before } },
	  all_quiet },
	{ "as-of-wide", "a wide change that runs at the earlier moment is not missed",
	  FULLY, ring_of_2, { { "wide", change_wide }, { "translate", translate_before } },
	  all_quiet },
	{ "as-of-overrun", "a ring that was overrun since the earlier moment proves nothing",
	  FULLY, ring_of_1, { { "ours-first", change_0_and_2 }, { "translate", translate_before } },
	  all_quiet },
	{ "as-of-race", "events beside the range do not hide one of it",
	  NARROWLY, ring_of_2, { { "change", change_0 }, { "neighbour", change_2 },
				 { "translate", translate_before } }, all_quiet },
	{ "as-of-kernel", "the same beside a writer under a lock",
	  FULLY, ring_of_2, { { "kernel", kernel_0 }, { "translate", translate_before } },
	  all_quiet },
	{ "as-of-settle", "the same where changes are marked late",
	  FULLY, late_marks, { { "change", change_marked_late },
			       { "translate", translate_before } }, all_quiet },
	{ "as-of-lost", "a change that is being lost is not missed",
	  FULLY, ring_of_2, { { "lost", change_lost }, { "translate", translate_before_all } },
	  all_quiet },
	{ "as-of-lost-beside", "the same beside an event of another range",
	  NARROWLY, ring_of_2, { { "lost", change_lost }, { "neighbour", change_2 },
				 { "translate", translate_before_all } }, all_quiet },
	{ "as-of-closed", "a feed that is closed proves nothing",
	  FULLY, ring_of_2, { { "degrade", degrade }, { "translate", translate_before } }, closed },
	{ "undo", "work that fails spends the budget",
	  FULLY, no_ring, { { "change", change_0 }, { "undo", undo_0 } }, all_quiet },
	{ "shared-snapshot", "threads that refresh one snapshot keep it correct",
	  NARROWLY, ring_of_2, { { "neighbour", change_2_and_0 }, { "hit", hit },
				 { "hit-2", hit } },
	  all_quiet },
	{ "kept", "a neighbour's changes do not cost the entry",
	  NARROWLY, ring_of_2, { { "neighbour", change_2_and_2 }, { "hit", hit_surely },
				{ "hit-2", hit_surely } }, kept },
	{ }
};
