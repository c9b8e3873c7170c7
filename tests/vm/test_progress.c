// SPDX-License-Identifier: MIT
/*
 * Progress against storms. These tests assert only what holds on a machine of any speed.
 * bench/kernel/progress.c compares rounds and times with the mirror that uses
 * mmu_interval_notifier.
 */
#include "progress.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ROUNDS		4
/* MMU_INVLOCK_SLOW_ROUNDS of kmod/mmu_invlock.h */
#define SLOW_ROUNDS	8
#define AN_HOUR_NS	3600000000000ULL
#define FOR_EVER	(~0U)

static int drill;

static int open_drill(void **state)
{
	(void)state;
	drill = drill_open();
	/* each fault takes long enough for the storm to make changes meanwhile */
	set_mirror_us("delay_us", 3000);
	return 0;
}

static int close_drill(void **state)
{
	(void)state;
	set_delay_ms(0);
	close(drill);
	return 0;
}

static void tell(const struct progress *p)
{
	print_message("# %s: %u faults, %llu invalidations, %llu walks (at most %llu), "
		      "%llu collisions, %llu waits, %u busy\n", contender_names[p->contender],
		      p->tried, (unsigned long long)p->invalidations, p->stats.walks,
		      p->stats.most_walks, p->stats.collisions, p->stats.waits, p->busy);
}

static void run_bounded(struct progress *p)
{
	progress_run(p, drill);
	tell(p);
	assert_true(p->tried > 0);
	assert_int_equal(p->wrong, 0);
	assert_true(p->stats.most_walks <= ROUNDS + SLOW_ROUNDS);
	assert_int_equal(p->stats.failed, p->busy);
	assert_int_equal(p->stats.running, 0);
}

/* The storm and the faults may miss each other where a busy machine runs one CPU at a time. */
static void run_until_it_collides(const struct progress *wanted)
{
	struct progress p;
	unsigned int n = 0;

	do {
		p = *wanted;
		run_bounded(&p);
	} while (!p.stats.collisions && ++n < 20);
	assert_true(p.stats.collisions > 0);
}

TEST(a_storm_elsewhere_neither_delays_nor_undoes_a_fault)
{
	struct progress p = {
		.contender = INVLOCK, .storm = STORM_DISJOINT,
		.faults = 50, .max_ms = 60000, .hold_us = 2000,
	};

	progress_run(&p, drill);
	tell(&p);
	assert_int_equal(p.tried, 50);
	assert_int_equal(p.busy + p.wrong, 0);
	assert_int_equal(p.stats.most_walks, 1);
	assert_int_equal(p.stats.collisions, 0);
	/* no attempt found its range busy */
	assert_int_equal(p.stats.waits, 0);
	assert_true(p.invalidations > 50);
}

/* There are more changes during one fault than a ring could remember, and all miss the device. */
TEST(a_storm_beside_the_page_in_its_stripe_undoes_no_fault)
{
	const struct progress wanted = {
		.contender = INVLOCK, .storm = STORM_NEAR, .faults = 5, .max_ms = 600000,
		.time_ns = AN_HOUR_NS,
	};
	struct progress p;
	unsigned int ms = 100;

	/* give a slow machine more time */
	do {
		p = wanted;
		ms *= 2;
		set_delay_ms(ms);
		progress_run(&p, drill);
		tell(&p);
		assert_int_equal(p.tried, 5);
		assert_int_equal(p.busy + p.wrong, 0);
		assert_int_equal(p.stats.collisions, 0);
	} while (p.invalidations <= 5 * 256 && ms < 10000);
	assert_true(p.invalidations > 5 * 256);
}

/* This shows that the first of these tests could turn red. */
TEST(the_same_storm_delays_or_undoes_a_mirror_that_watches_the_whole_address_space)
{
	struct progress p = {
		.contender = INTERVAL_ALL, .storm = STORM_DISJOINT,
		.faults = 50, .max_ms = 1500, .hold_us = 2000, .time_ns = 50000000,
	};

	progress_run(&p, drill);
	tell(&p);
	assert_true(p.stats.collisions > 0 || p.tried < 50);
}

TEST(a_storm_of_the_same_page_costs_no_more_rounds_than_the_budget)
{
	const struct progress p = {
		.contender = INVLOCK, .storm = STORM_SAME,
		.faults = 20, .max_ms = 60000, .rounds = ROUNDS, .time_ns = 200000000,
	};

	run_until_it_collides(&p);
}

TEST(a_range_that_is_never_quiet_ends_with_busy_and_without_a_round)
{
	struct progress p = {
		.contender = INVLOCK, .storm = STORM_SAME, .hold_us = 20000,
		.faults = 5, .max_ms = 60000, .rounds = ROUNDS, .time_ns = 50000000,
	};

	run_bounded(&p);
	assert_true(p.stats.waits > 0);
}

TEST(a_storm_of_huge_unmaps_costs_no_more_rounds_than_the_budget)
{
	struct progress p = {
		.contender = INVLOCK, .storm = STORM_HUGE, .hold_us = 1000,
		.faults = 20, .max_ms = 20000, .rounds = ROUNDS, .time_ns = 200000000,
	};

	run_bounded(&p);
}

/* Runs as a process that shares this process's memory, so that it can be killed alone. */
static int fault_for_ever(void *arg)
{
	struct progress *p = arg;

	p->faults = ~0U;
	fault_until_done(p);
	return 0;
}

/* Kill a task that faults in the storm of @p this long after its birth. */
static void kill_after(const struct progress *p, unsigned int us)
{
	struct progress of_the_reader = *p;
	char *stack = map_anon(64 * PAGE);
	int status;
	pid_t reader;

	reader = clone(fault_for_ever, stack + 64 * PAGE, CLONE_VM | CLONE_FILES | SIGCHLD,
		       &of_the_reader);
	assert_true(reader > 0);
	usleep(us);
	assert_int_equal(kill(reader, SIGKILL), 0);
	alarm(100);
	status = wait_for(reader);
	alarm(0);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	munmap(stack, 64 * PAGE);
}

static void check_that_a_faulting_task_can_be_killed(enum contender contender, enum storm storm,
						     unsigned int hold_us)
{
	struct progress p = {
		.contender = contender, .storm = storm, .hold_us = hold_us,
		.max_ms = FOR_EVER, .rounds = ~0U, .time_ns = AN_HOUR_NS,
	};
	struct progress_thread threads[STORM_THREADS];

	storm_begin(&p, drill, threads);
	/* by then it waits, or takes one round after another */
	kill_after(&p, 300000);
	/* from before its first round to some rounds later */
	for (unsigned int us = 0; us < 20000; us += 200)
		kill_after(&p, us);
	/* the storm has gone on until here */
	storm_end(&p, drill, threads);
	assert_int_equal(p.stats.running, 0);
}

TEST(a_task_that_faults_in_a_storm_can_be_killed_at_any_moment)
{
	check_that_a_faulting_task_can_be_killed(INVLOCK, STORM_SAME, 20000);
	check_that_a_faulting_task_can_be_killed(INVLOCK, STORM_SAME, 0);
	check_that_a_faulting_task_can_be_killed(INVLOCK, STORM_HUGE, 20000);
}

TEST(a_task_whose_lock_sleeps_costs_no_more_rounds_than_the_budget)
{
	const struct progress p = {
		.contender = ANY, .storm = STORM_SAME,
		.faults = 20, .max_ms = 60000, .rounds = ROUNDS, .time_ns = 200000000,
	};

	run_until_it_collides(&p);
}

TEST(a_task_whose_lock_sleeps_can_be_killed_in_a_storm_at_any_moment)
{
	check_that_a_faulting_task_can_be_killed(ANY, STORM_SAME, 0);
}

TEST_MAIN(.setup = open_drill, .teardown = close_drill)
