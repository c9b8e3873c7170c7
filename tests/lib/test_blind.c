// SPDX-License-Identifier: MIT
/* A monitor that is blind for a moment costs no registration: the cache and the section wait. */
#include <pthread.h>
#include <unistd.h>

#include <invlock/section.h>

#include "tests/test.h"
#include "tests/lib/rig.h"
#include "core/invalidate.h"
#include "lib/cache/cache_internal.h"

#define A_MOMENT_US	20000

static struct fake_device fake;
static u64 event;
/* nobody accesses these addresses: the fake device registers without looking */
static char *const mem = (char *)0x100000000;

/* LONG_NS is never spent, however busy the machine is */
#define LONG_NS		60000000000
#define SHORT_NS	1000000

static int setup(void **state)
{
	struct invlock_cache_options o = { .size = sizeof(o), .time_ns = LONG_NS };

	(void)state;
	fake_open(&fake, &o);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_close(&fake);
	return 0;
}

static int get_and_put(unsigned int flags)
{
	struct invlock_pin pin;
	int err = invlock_cache_get(fake.cache, mem, PAGE, flags, &pin);

	return err ? err : invlock_cache_put(&pin);
}

static void *see_again(void *missed)
{
	usleep(A_MOMENT_US);
	invlock_blind_end(&fake.mm->il, event, missed);
	return NULL;
}

static void go_blind(void)
{
	event = invlock_blind_start(&fake.mm->il);
}

static pthread_t go_blind_for_a_moment(bool miss)
{
	pthread_t thread;

	go_blind();
	assert_int_equal(pthread_create(&thread, NULL, see_again, miss ? &fake : NULL), 0);
	return thread;
}

TEST(a_get_waits_for_a_blind_monitor_and_keeps_its_entry)
{
	pthread_t thread;

	assert_int_equal(get_and_put(0), 0);
	thread = go_blind_for_a_moment(false);
	assert_int_equal(get_and_put(0), 0);
	pthread_join(thread, NULL);
	assert_int_equal(fake.nr_reg, 1);
	assert_int_equal(fake_stats(&fake).hits, 1);
}

TEST(a_get_registers_again_what_a_blind_monitor_may_have_missed)
{
	pthread_t thread;

	assert_int_equal(get_and_put(0), 0);
	thread = go_blind_for_a_moment(true);
	assert_int_equal(get_and_put(0), 0);
	pthread_join(thread, NULL);
	assert_int_equal(fake.nr_reg, 2);
	assert_int_equal(fake_stats(&fake).stale, 1);
}

TEST(a_get_of_cached_entries_alone_does_not_wait)
{
	assert_int_equal(get_and_put(0), 0);
	go_blind();
	assert_int_equal(get_and_put(INVLOCK_GET_CACHED), -ENOENT);
	invlock_blind_end(&fake.mm->il, event, false);
	assert_int_equal(get_and_put(INVLOCK_GET_CACHED), 0);
}

TEST(a_get_gives_up_when_its_time_is_spent_and_keeps_the_entry)
{
	assert_int_equal(get_and_put(0), 0);
	go_blind();
	fake.cache->budget.time_ns = SHORT_NS;
	assert_int_equal(get_and_put(0), -EBUSY);
	assert_int_equal(fake_stats(&fake).refused_busy, 1);
	invlock_blind_end(&fake.mm->il, event, false);
	assert_int_equal(get_and_put(0), 0);
	assert_int_equal(fake.nr_reg, 1);
}

TEST(the_reaper_drops_nothing_while_the_monitor_is_blind)
{
	assert_int_equal(get_and_put(0), 0);
	go_blind();
	assert_int_equal(invlock_cache_reap(fake.cache), 0);
	invlock_blind_end(&fake.mm->il, event, false);
	assert_int_equal(get_and_put(0), 0);
	assert_int_equal(fake.nr_reg, 1);
	go_blind();
	invlock_blind_end(&fake.mm->il, event, true);
	assert_int_equal(invlock_cache_reap(fake.cache), 1);
}

static pthread_t blind_during_reg;

static void go_blind_once(struct fake_device *t, void *addr, size_t len)
{
	(void)addr, (void)len;
	t->during_reg = NULL;
	blind_during_reg = go_blind_for_a_moment(false);
}

TEST(a_registration_survives_a_window_in_which_nothing_was_missed)
{
	fake.during_reg = go_blind_once;
	assert_int_equal(get_and_put(0), 0);
	pthread_join(blind_during_reg, NULL);
	assert_int_equal(fake.nr_reg, 1);
	assert_int_equal(fake_stats(&fake).collided, 0);
}

TEST(a_read_section_waits_for_a_blind_monitor_and_stays_valid)
{
	const struct invlock_read_budget budget = { .rounds = 64, .time_ns = LONG_NS };
	struct invlock_read rd;
	pthread_t thread;

	invlock_read_init(&rd, fake.mm, mem, PAGE, &budget, 0);
	assert_true(invlock_read_attempt(&rd));
	thread = go_blind_for_a_moment(false);
	assert_true(invlock_read_commit(&rd));
	pthread_join(thread, NULL);
	thread = go_blind_for_a_moment(false);
	assert_true(invlock_read_valid(&rd));
	pthread_join(thread, NULL);
	invlock_read_end(&rd);
}

TEST(a_read_section_waits_no_longer_than_its_budget)
{
	const struct invlock_read_budget budget = { .rounds = 64, .time_ns = SHORT_NS };
	struct invlock_read rd;

	invlock_read_init(&rd, fake.mm, mem, PAGE, &budget, 0);
	assert_true(invlock_read_attempt(&rd) && invlock_read_commit(&rd));
	go_blind();
	assert_false(invlock_read_valid(&rd));
	invlock_read_end(&rd);
	invlock_blind_end(&fake.mm->il, event, false);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
