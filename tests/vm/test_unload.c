// SPDX-License-Identifier: MIT
/*
 * A driver that is unloaded waits until its locks are freed. run.sh boots the kernel with callbacks
 * on every CPU (srcutree.convert_to_big), as on a machine with many of them.
 */
#include "drill_rig.h"

#include <sched.h>

/* how long an unload is held, which must not end meanwhile */
#define HELD_MS	(fault_is_planted() ? 10000U : 500U)

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		TEST_SKIP("there is no CPU %d", cpu);
}

TEST(an_unload_waits_until_the_last_lock_is_freed)
{
	int fd = drill_open();
	struct drill drill = {};

	/* the lock is freed on another CPU than the one that waits */
	run_on(1);
	assert_int_equal(drill_do(fd, DRILL_LATE, &drill), 0);
	assert_int_equal(drill.late, 1);
	run_on(0);
	/* a wait that the last lock does not wake would not end: the alarm kills this test */
	alarm(LOST_MS / 1000);
	assert_int_equal(drill_do(fd, DRILL_SYNCHRONIZE, &drill), 0);
	alarm(0);
	assert_int_equal(drill.late, 0);
	close(fd);
}

/* rmmod on its own: the functions of the mirrors must not go before they have freed their locks. */
TEST(an_unload_of_the_mirrors_waits_until_their_locks_are_freed)
{
	int fd = drill_open(), mirror = mirror_open();
	static struct drill_work discarder;
	bool gone = false;
	pid_t child;

	/* no notifier is freed while a callback runs */
	start_held_discard(&discarder, fd);
	close(mirror);
	child = start_busybox("rmmod", "invlock_test");
	for (unsigned int ms = 0; ms < HELD_MS && !gone; ms++) {
		sleep_ms(1);
		gone = waitpid(child, NULL, WNOHANG) == child;
	}
	drill_let_go(fd);
	assert_int_equal(finish(&discarder), 0);
	if (!gone)
		assert_int_equal(wait_for(child), 0);
	assert_int_equal(wait_for(start_busybox("insmod", getenv("mirrors"))), 0);
	assert_false(gone);
	close(fd);
}

TEST_MAIN()
