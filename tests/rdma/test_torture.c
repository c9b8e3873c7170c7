// SPDX-License-Identifier: MIT
/*
 * Threads, domains that come and go, and ranges that overlap, over libfabric: with the plug-in no
 * message is stale. With a plug-in that has a fault, some are.
 */
#include "command.h"

#define TORTURE		"fabric_torture 3"
#define EACH		90	/* messages of each thread */
#define FAULTY(name)	"FI_PROVIDER_PATH=/usr/lib/invlock/libfabric-" name " INVLOCK_STATS=1 "

static void is_right(const char *environment, const char *rest)
{
	struct result r = run(environment, TORTURE, EACH, rest);

	assert_int_equal(r.status, 0);
	assert_true(r.messages > 2 * EACH);
	assert_true(r.hits > 0);
	assert_int_equal(r.stale, 0);
	assert_int_equal(r.complaints, 0);
}

static void is_wrong(const char *environment, const char *rest)
{
	struct result r = run(environment, TORTURE, EACH, rest);

	assert_int_equal(r.status, 0);
	assert_true(r.messages > 2 * EACH);
	assert_true(r.stale > 0);
}

TEST(threads_and_domains_that_come_and_go_stay_right)
{
	is_right(PLUGIN, "");
}

TEST(threads_stay_right_when_nearly_everything_is_evicted)
{
	struct result r = run(PLUGIN "FI_MR_CACHE_MAX_COUNT=1", TORTURE, EACH, "");

	assert_true(r.messages > 2 * EACH);
	assert_int_equal(r.stale, 0);
}

TEST(memory_that_is_replaced_just_after_its_registration_stays_right)
{
	is_right(PLUGIN, "late");
}

TEST(a_plug_in_that_does_not_ask_the_lock_goes_stale)
{
	is_wrong(FAULTY("no_check"), "");
}

TEST(a_plug_in_that_trusts_a_late_sample_goes_stale)
{
	is_wrong(FAULTY("late_sample"), "late");
}

TEST_MAIN()
