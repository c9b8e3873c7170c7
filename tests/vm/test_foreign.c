// SPDX-License-Identifier: MIT
/* Faults of another process's memory, as drivers make them in a worker. drill.ko is the driver. */
#include "drill_rig.h"

#define VALID		(1UL << 63)	/* HMM_PFN_VALID, and what asks for a page */

/*
 * While a fault is in flight, its mm stays, although the process is gone. The end of the fault is
 * the end of the mm. It may be made under the lock of a driver whose lock sleeps, and an
 * invalidation takes that lock: so it must not be made by the same task.
 */
static void fault_while_the_owner_ends(uint64_t how)
{
	static struct drill_work f;
	int pidfd, fd;
	pid_t owner;

	fd = start_process(wait_for_ever, &owner, &pidfd);
	f = fault_over(fd, (void *)(2 * MIB), HOLD_US);
	f.drill.how = how;
	start(&f, fault);
	wait_until_fault_is_held(fd);
	assert_int_equal(kill(owner, SIGKILL), 0);
	/* an mm that ends too early waits for the fault, and so does its process */
	while (!drill_state(fd).dead && !waitpid(owner, NULL, WNOHANG))
		sleep_ms(1);
	assert_int_equal(drill_state(fd).dead, 0);
	drill_let_go(fd);
	assert_int_equal(finish(&f), 0);
	assert_int_equal(f.drill.reentered, 0);
	assert_true(BECOMES(drill_state(fd).dead));
	close(fd);
	close(pidfd);
}

TEST(a_fault_keeps_the_memory_of_another_process_until_it_ends)
{
	fault_while_the_owner_ends(0);
}

TEST(a_fault_whose_lock_sleeps_keeps_the_memory_of_another_process_until_it_ends)
{
	fault_while_the_owner_ends(DRILL_ANY);
}

/* The last step of the slow path looks into the page table of the task that runs. */
TEST(pages_of_another_process_are_not_looked_up_in_this_one)
{
	char *p = map_aligned(2 * MIB);
	struct drill drill = {
		.addr = (unsigned long)p,
		.len = PAGE,
		.how = DRILL_WALK,
		.rounds = 1,
		.flags = VALID,
	};
	int pidfd, fd;
	pid_t owner;

	*p = 1;
	fd = start_process(wait_for_ever, &owner, &pidfd);
	assert_int_equal(drill_do(fd, DRILL_FAULT, &drill), -EBUSY);
	kill(owner, SIGKILL);
	wait_for(owner);
	close(fd);
	close(pidfd);
}

TEST_MAIN(.teardown = let_go_of_everything)
