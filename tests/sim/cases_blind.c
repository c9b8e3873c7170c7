// SPDX-License-Identifier: MIT
/*
 * A writer that is blind for a while: first the windows as readers see them, then the kernel and
 * the guard that open and close them.
 */
#include "lock_rig.h"
#include "tests/sim/guard.h"

static struct cpu *cpus;
static u32 *tokens;

static void ring_of_1(void) { make_feed(2, 1); }
static void no_ring(void) { make_feed(2, 0); }

/* ---- windows ---- */

static void window(bool missed)
{
	u64 event = invlock_blind_start(&il);

	if (missed)
		sim_change_made(sim_change_begins(0), SIM_FENCED);
	invlock_blind_end(&il, event, missed);
}

static void miss_0(void) { window(true); }
static void miss_nothing(void) { window(false); }
static void miss_0_then_nothing(void) { window(true); window(false); }
static void miss_nothing_then_0(void) { window(false); window(true); }
static void never_see_again(void) { invlock_blind_start(&il); }

static void never_see_again_and_die(void)
{
	invlock_blind_start(&il);
	invlock_close_feed(&il, INVLOCK_FEED_DEAD);
	sim_change_made(sim_change_begins(0), SIM_RELEASE);
}

static void change_2(void) { change(2, 1); }	/* shares the word of page 0 */
static void hit_twice(void) { hit(); hit(); }
static void translate_0(void) { translate(0, 1, &three_rounds, false); }

/* Page 0 did not change: only a neighbour's event that is being written excuses "stale". */
static void hit_surely(void)
{
	u32 relaxed = sim_relaxed();
	enum invlock_verdict verdict = invlock_validate(&il, shared, AT(0), AT(1));

	if (verdict == INVLOCK_STALE && sim_relaxed() == relaxed)
		sim_fail("a translation was called stale for no reason");
}

static void hit_surely_twice(void) { hit_surely(); hit_surely(); }

/* nor may it be translated twice */
static void translate_0_surely(void)
{
	struct invlock_section s;
	u32 relaxed = sim_relaxed();

	invlock_section_init(&s, &il, AT(0), AT(1), &three_rounds, 0);
	while (invlock_attempt(&s) && !invlock_commit(&s))
		;
	SIM_CHECK(!invlock_section_error(&s));
	SIM_CHECK(!s.collisions || sim_relaxed() != relaxed);
}

static void translate_0_in_time(void)
{
	const struct invlock_budget short_time = { .rounds = 9, .time_ns = 1000000 };

	translate(0, 1, &short_time, false);
}

/* In a window that never ends, a reader learns only that the feed is blind. */
static void still_blind(void)
{
	SIM_CHECK(il.feed->blind == 1);
	SIM_CHECK(invlock_validate(&il, shared, AT(0), AT(1)) == INVLOCK_UNSETTLED);
}

static void closed(void)
{
	struct invlock_snapshot snap;

	SIM_CHECK(invlock_validate(&il, shared, AT(0), AT(1)) == INVLOCK_STALE);
	SIM_CHECK(invlock_sample(&il, AT(0), AT(1), &snap) == -EOWNERDEAD);
}

static void sees_again(void)
{
	SIM_CHECK(!il.feed->blind && !il.feed->flags);
	all_quiet();
}

static void kept(void)
{
	sees_again();
	SIM_CHECK(invlock_validate(&il, shared, AT(0), AT(1)) == INVLOCK_VALID);
}

/* ---- the guard ---- */

static void two_cpus(void)
{
	ring_of_2();
	cpus = sim_alloc(2 * sizeof(*cpus));
	tokens = sim_alloc(2 * sizeof(*tokens));
	for (u32 i = 0; i < 2; i++)
		cpus[i].token = &tokens[i];
	sim_guarded(cpus, 2 * sizeof(*cpus));
	sim_name(tokens, 2 * sizeof(*tokens), "token");
	sim_name(&cpus[0], sizeof(*cpus), "cpu-0");
	sim_name(&cpus[1], sizeof(*cpus), "cpu-1");
}

/* The task that was preempted inside has just left: the next program may close the window. */
static void window_is_open(void)
{
	two_cpus();
	invlock_blind_raise(&il, &cpus[0].window, 0);
}

/* In addition, another task was skipped meanwhile. */
static void window_has_skipped(void)
{
	window_is_open();
	cpus[0].misses = 1;
}

static void make_one_call(struct cpu *cpu, u32 page, u32 preemptions)
{
	struct task t;

	begin_task(&t, &il, cpu, preemptions);
	make_call(&t, page);
	end_task(&t);
}

/* Runs a program, and may be preempted in it. */
static void pass(struct cpu *cpu, enum program which)
{
	struct task t;

	begin_task(&t, &il, cpu, 1);
	run_program(&t, which, other_call);
	end_task(&t);
}

static void pass_enter(void) { pass(&cpus[0], ENTER); }
static void pass_exit(void) { pass(&cpus[0], EXIT); }
static void pass_elsewhere(void) { pass(&cpus[1], ENTER); }
static void call_0(void) { make_one_call(&cpus[0], 0, 0); }
static void call_0_preempted(void) { make_one_call(&cpus[0], 0, 1); }
static void call_0_preempted_twice(void) { make_one_call(&cpus[0], 0, 2); }
static void call_2_preempted(void) { make_one_call(&cpus[0], 2, 1); }

/* a task that makes no call while it has the CPU */
static void compute(void)
{
	struct task t;

	begin_task(&t, &il, &cpus[0], 0);
	leave_cpu(&t);
}

static void nobody_is_inside(void)
{
	for (u32 i = 0; i < 2; i++)
		SIM_CHECK(!nr_inside(&cpus[i]) && !cpus[i].window.number);
	sees_again();
}

static void nobody_was_skipped(void)
{
	nobody_is_inside();
	SIM_CHECK(!cpus[0].misses);
	kept();
}

/*
 * Preemptions of tasks on a CPU are choices, which have no bound. A task that leaves a CPU empties
 * its store buffer, and orders everything that was done there: only readers elsewhere can see
 * stores late.
 */
#define CLOSELY		1u << SIM_SC, 1, 1
#define CLOSELY_WEAK	1u << SIM_SC | 1u << SIM_WEAK, 1, 1

const struct sim_case blind_cases[] = {
	{ "blind", "a change that was missed in a window is never hit",
	  FULLY, ring_of_2, { { "blind", miss_0 }, { "hit", hit_twice } }, sees_again },
	{ "blind-section", "a change that was missed in a window is never published",
	  FULLY, ring_of_2, { { "blind", miss_0 }, { "translate", translate_0 } }, sees_again },
	{ "blind-again", "a change that was missed in one of two windows is never hit",
	  FULLY, ring_of_2, { { "blind", miss_nothing_then_0 }, { "hit", hit_twice } },
	  sees_again },
	{ "blind-before", "a change that was missed is not forgotten in the next window",
	  FULLY, ring_of_2, { { "blind", miss_0_then_nothing }, { "hit", hit_twice } },
	  sees_again },
	{ "blind-both", "a change that was missed while two CPUs are blind is never hit",
	  NARROWLY, ring_of_2, { { "blind", miss_0 }, { "blind-2", miss_nothing },
				 { "hit", hit_twice } }, sees_again },
	{ "blind-neighbour", "a neighbour's harmless change does not hide a missed change",
	  NARROWLY, ring_of_2, { { "blind", miss_0 }, { "neighbour", change_2 },
				 { "hit", hit_twice } }, sees_again },
	{ "blind-overrun", "a change that was missed is never hit when the ring is overrun",
	  NARROWLY, ring_of_1, { { "blind", miss_0 }, { "neighbour", change_2 },
				 { "hit", hit_twice } }, sees_again },
	{ "blind-no-ring", "without a ring a change that was missed in a window is never hit",
	  FULLY, no_ring, { { "blind", miss_0 }, { "hit", hit_twice } }, sees_again },
	{ "blind-kept", "a window in which nothing was missed costs no translation",
	  FULLY, ring_of_2, { { "blind", miss_nothing }, { "hit", hit_surely_twice } }, kept },
	{ "blind-kept-both", "two windows at once in which nothing was missed cost no translation",
	  NARROWLY, ring_of_2, { { "blind", miss_nothing }, { "blind-2", miss_nothing },
				 { "hit", hit_surely } }, kept },
	{ "blind-kept-shared", "a window in which nothing was missed costs no shared translation",
	  NARROWLY, ring_of_2, { { "blind", miss_nothing }, { "hit", hit_surely },
				 { "hit-2", hit_surely } }, kept },
	{ "blind-section-kept", "a window in which nothing was missed costs a section no round",
	  FULLY, ring_of_2, { { "blind", miss_nothing }, { "translate", translate_0_surely } },
	  kept },
	{ "blind-for-ever", "a section waits for the end of a window as long as its time lasts",
	  FULLY, ring_of_2, { { "blind", never_see_again },
			      { "translate", translate_0_in_time } }, still_blind },
	{ "blind-dies", "no reader waits for the end of a window when the feed is closed",
	  FULLY, ring_of_2, { { "blind", never_see_again_and_die },
			      { "translate", translate_0 } }, closed },

	{ "guard-hit", "a call that was skipped on a CPU that the guard watches makes no hit stale",
	  NARROWLY, two_cpus, { { "inside", pass_enter }, { "call", call_0 }, { "hit", hit } },
	  nobody_is_inside },
	{ "guard-section", "a skipped call makes no translation stale, even after the window",
	  CLOSELY, two_cpus, { { "inside", pass_enter }, { "call", call_0_preempted },
			       { "translate", translate_0 } }, nobody_is_inside },
	{ "guard-again", "no hit is stale if the task about to close the window is preempted",
	  CLOSELY, window_is_open, { { "inside", pass_enter }, { "call", call_0_preempted },
				     { "hit", hit } }, nobody_is_inside },
	{ "guard-right", "a guard that works never closes the feed",
	  FULLY, window_has_skipped, { { "inside", pass_enter }, { "other", compute } },
	  nobody_is_inside },
	{ "guard-exit", "a call whose exit was skipped ends nevertheless",
	  CLOSELY, two_cpus, { { "inside", pass_exit }, { "call", call_0_preempted },
				{ "hit", hit } }, nobody_is_inside },
	{ "guard-marks", "a call is marked once, however often its task leaves the CPU",
	  1u << SIM_SC, -1, -1, two_cpus, { { "inside", pass_enter },
					    { "call", call_0_preempted_twice } },
	  nobody_is_inside },
	{ "guard-calls", "two calls that are preempted at any place make no hit stale",
	  CLOSELY, two_cpus, { { "call-2", call_2_preempted }, { "call-0", call_0_preempted },
				{ "hit", hit } }, nobody_is_inside },
	{ "guard-cpus", "no hit is stale while another CPU is blind, too",
	  CLOSELY, two_cpus, { { "elsewhere", pass_elsewhere }, { "inside", pass_enter },
				{ "call", call_0 }, { "hit", hit } }, nobody_is_inside },
	{ "guard-kept", "if no run was skipped, no translation is lost",
	  CLOSELY_WEAK, two_cpus, { { "inside", pass_enter }, { "other", compute },
				{ "hit", hit_surely } }, nobody_was_skipped },
	{ "guard-kept-again", "a window whose closing is preempted loses no translation",
	  CLOSELY_WEAK, window_is_open, { { "inside", pass_enter }, { "other", compute },
					  { "hit", hit_surely } }, nobody_was_skipped },
	{ "guard-section-kept", "if no run was skipped, no section makes its translation twice",
	  CLOSELY_WEAK, two_cpus, { { "inside", pass_enter }, { "other", compute },
				{ "translate", translate_0_surely } }, nobody_was_skipped },
	{ }
};
