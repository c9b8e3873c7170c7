// SPDX-License-Identifier: MIT
/* The read section: its attempt, its commit, its budget, its errors. */
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/core/rig.h"

static struct test_feed f;

/* time that is never spent, however busy the machine is */
#define LONG_NS	60000000000
static const struct invlock_budget patient = { .rounds = 64, .time_ns = LONG_NS };

TEST(a_quiet_section_runs_once)
{
	struct invlock_section s;
	int rounds = 0;

	feed_make(&f, 4096, 64);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, NULL, 0);
	while (invlock_attempt(&s)) {
		rounds++;
		if (invlock_commit(&s))
			break;
	}
	assert_int_equal(rounds, 1);
	assert_int_equal(invlock_section_error(&s), 0);
	assert_false(invlock_attempt(&s));
	assert_int_equal(invlock_section_error(&s), 0);
	feed_free(&f);
}

TEST(a_change_between_sample_and_commit_forces_another_round)
{
	struct invlock_section s;
	int rounds = 0;

	feed_make(&f, 4096, 64);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &patient, 0);
	while (invlock_attempt(&s)) {
		if (rounds++ < 3)
			feed_change(&f, 0x10000, 0x11000);
		if (invlock_commit(&s))
			break;
	}
	assert_int_equal(rounds, 4);
	assert_int_equal(s.collisions, 3);
	assert_int_equal(invlock_section_error(&s), 0);
	feed_free(&f);
}

TEST(a_bad_range_never_enters_the_loop)
{
	static const u64 bad[][2] = { { 0, 0 }, { 8, 8 }, { 0x2000, 0x1000 }, { ~0ULL, 4096 } };
	struct invlock_section s;

	feed_make(&f, 4096, 64);
	for (int i = 0; i < 4; i++) {
		invlock_section_init(&s, &f.il, bad[i][0], bad[i][1], NULL, 0);
		assert_false(invlock_attempt(&s));
		assert_int_equal(invlock_section_error(&s), -EINVAL);
	}
	feed_free(&f);
}

TEST(a_commit_without_an_attempt_is_an_error)
{
	struct invlock_section s;

	feed_make(&f, 4096, 64);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, NULL, 0);
	assert_false(invlock_commit(&s));
	assert_int_equal(invlock_section_error(&s), -EINVAL);
	assert_false(invlock_attempt(&s));

	/* each commit needs an attempt of its own */
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, NULL, 0);
	assert_true(invlock_attempt(&s));
	feed_change(&f, 0x10000, 0x11000);
	assert_false(invlock_commit(&s));
	assert_false(invlock_commit(&s));
	assert_int_equal(invlock_section_error(&s), -EINVAL);
	feed_free(&f);
}

TEST(a_storm_of_collisions_ends_when_the_rounds_are_spent)
{
	struct invlock_budget budget = { .rounds = 7, .time_ns = LONG_NS };
	struct invlock_section s;
	int rounds = 0;

	feed_make(&f, 4096, 64);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &budget, 0);
	while (invlock_attempt(&s)) {
		rounds++;
		feed_change(&f, 0x10000, 0x11000);
		if (invlock_commit(&s))
			break;
	}
	assert_int_equal(rounds, 7);
	assert_int_equal(invlock_section_error(&s), -EBUSY);
	feed_free(&f);
}

TEST(a_storm_ends_when_the_time_is_spent_although_no_attempt_waited)
{
	struct invlock_budget budget = { .rounds = ~0u, .time_ns = 1000000 };
	struct invlock_section s;

	feed_make(&f, 4096, 64);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &budget, 0);
	while (invlock_attempt(&s)) {
		feed_change(&f, 0x10000, 0x11000);
		if (invlock_commit(&s))
			break;
	}
	assert_int_equal(invlock_section_error(&s), -EBUSY);
	assert_int_equal(s.waits, 0);
	assert_true(s.collisions > 0);
	feed_free(&f);
}

TEST(an_invalidation_that_never_ends_spends_the_time_and_no_more)
{
	struct invlock_budget budget = { .time_ns = 3000000 };
	struct invlock_section s;

	feed_make(&f, 4096, 64);
	invlock_inv_start(&f.il, 0x10000, 0x11000, INVLOCK_KIND_UNMAP, 0, 0);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &budget, 0);
	assert_false(invlock_attempt(&s));
	assert_int_equal(invlock_section_error(&s), -EBUSY);
	assert_true(s.waits > 1);
	feed_free(&f);
}

static void *end_it(void *arg)
{
	usleep(3000);
	invlock_inv_end(arg, 0x10000, 0x11000);
	return NULL;
}

TEST(a_waiter_goes_on_when_the_invalidation_ends)
{
	struct invlock_section s;
	pthread_t t;

	feed_make(&f, 4096, 64);
	invlock_inv_start(&f.il, 0x10000, 0x11000, INVLOCK_KIND_UNMAP, 0, 0);
	assert_int_equal(pthread_create(&t, NULL, end_it, &f.il), 0);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &patient, 0);
	assert_true(invlock_attempt(&s));
	assert_true(invlock_commit(&s));
	pthread_join(t, NULL);
	feed_free(&f);
}

static void nothing(int sig)
{
	(void)sig;
}

static void alarm_every_ms(bool on)
{
	struct itimerval t = {
		.it_interval.tv_usec = on ? 1000 : 0,
		.it_value.tv_usec = on ? 1000 : 0,
	};
	struct sigaction sa = { .sa_handler = nothing };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
}

TEST(a_signal_ends_an_interruptible_wait_and_no_other)
{
	struct invlock_budget budget = { .time_ns = LONG_NS };
	struct invlock_section s;

	feed_make(&f, 4096, 64);
	invlock_inv_start(&f.il, 0x10000, 0x11000, INVLOCK_KIND_UNMAP, 0, 0);
	alarm_every_ms(true);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &budget, INVLOCK_SECTION_INTERRUPTIBLE);
	assert_false(invlock_attempt(&s));
	assert_int_equal(invlock_section_error(&s), -EINTR);

	budget.time_ns = 30000000;
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &budget, 0);
	assert_false(invlock_attempt(&s));
	assert_int_equal(invlock_section_error(&s), -EBUSY);
	alarm_every_ms(false);
	feed_free(&f);
}

TEST(a_feed_that_dies_ends_the_wait_with_the_reason)
{
	struct invlock_section s;

	feed_make(&f, 4096, 64);
	invlock_close_feed(&f.il, INVLOCK_FEED_DEAD);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, NULL, 0);
	assert_false(invlock_attempt(&s));
	assert_int_equal(invlock_section_error(&s), -EOWNERDEAD);
	feed_free(&f);
}

TEST(a_section_after_a_wide_change_is_not_undone_by_a_change_elsewhere)
{
	struct invlock_section s;

	/* no ring, so that nothing proves the change harmless */
	feed_make(&f, 4096, 0);
	feed_change(&f, 0, ~0ULL);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, NULL, 0);
	assert_true(invlock_attempt(&s));
	feed_change(&f, 1ULL << 30, (1ULL << 30) + 1);
	assert_true(invlock_commit(&s));
	feed_free(&f);
}

static bool unsettled(void *arg)
{
	int *turns = arg;

	return --*turns < 0;
}

TEST(the_sample_waits_for_an_unsettled_writer)
{
	struct invlock_section s;
	int turns = 5;

	feed_make(&f, 4096, 64);
	f.il.settle = unsettled;
	f.il.settle_arg = &turns;
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &patient, 0);
	assert_true(invlock_attempt(&s));
	assert_int_equal(turns, -1);
	assert_int_equal(s.waits, 5);
	/* While the writer is unsettled the commit waits, and undoes nothing. */
	turns = 2;
	assert_true(invlock_commit(&s));
	assert_int_equal(s.waits, 7);
	assert_int_equal(s.collisions, 0);
	feed_free(&f);
}

static bool see_again_after_2(void *arg)
{
	u32 *asked = arg;

	if (++*asked == 3)
		invlock_blind_end(&f.il, 1, false);
	return true;
}

/* The settle hook runs each time the commit asks again. */
TEST(a_commit_waits_for_the_end_of_a_window_and_undoes_nothing)
{
	struct invlock_section s;
	u32 asked = 0, rounds = 0;

	feed_make(&f, 4096, 64);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &patient, 0);
	while (invlock_attempt(&s)) {
		rounds++;
		assert_int_equal(invlock_blind_start(&f.il), 1);
		f.il.settle = see_again_after_2;
		f.il.settle_arg = &asked;
		if (invlock_commit(&s))
			break;
	}
	assert_int_equal(invlock_section_error(&s), 0);
	assert_int_equal(rounds, 1);
	assert_int_equal(s.collisions, 0);
	assert_int_equal(s.waits, 2);
	feed_free(&f);
}

TEST(a_commit_waits_no_longer_than_the_budget)
{
	const struct invlock_budget budget = { .rounds = 64, .time_ns = 3000000 };
	struct invlock_section s;

	feed_make(&f, 4096, 64);
	invlock_section_init(&s, &f.il, 0x10000, 0x20000, &budget, 0);
	assert_true(invlock_attempt(&s));
	invlock_blind_start(&f.il);
	assert_false(invlock_commit(&s));
	assert_int_equal(invlock_section_error(&s), -EBUSY);
	assert_false(invlock_attempt(&s));
	/* The round was undone, so there is nothing left to commit. */
	assert_false(invlock_commit(&s));
	feed_free(&f);
}

TEST_MAIN()
