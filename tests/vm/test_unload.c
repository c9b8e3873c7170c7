// SPDX-License-Identifier: MIT
/*
 * A driver that is unloaded waits until its locks are freed. run.sh boots the kernel with callbacks
 * on every CPU (srcutree.convert_to_big), as on a machine with many of them.
 */
#include "drill_device.h"

#include <sched.h>

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

TEST_MAIN()
