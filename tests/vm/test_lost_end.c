// SPDX-License-Identifier: MIT
/*
 * Runs with the fault "end" of tests/vm/planted, so that no invalidation ever ends. Page faults of
 * the device must neither publish nor wait beyond their budget, and SIGKILL must end a wait.
 */
#include "device.h"

#include <signal.h>
#include <sys/wait.h>

/* Return: a page in whose range an invalidation runs for ever. */
static char *page_that_never_settles(void)
{
	char *p = map_aligned(2 * MIB);

	p[0] = 1;
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	p[0] = 2;
	return p;
}

TEST(a_fault_gives_up_when_its_time_is_spent)
{
	int fd = mirror_open();
	char *p = page_that_never_settles(), byte = 0;
	struct invlock_mirror_access access = {
		.op = INVLOCK_MIRROR_READ,
		.addr = (unsigned long)p,
		.len = 1,
		.buffer = (unsigned long)&byte,
		.time_ns = 50000000,
	};

	assert_int_equal(mirror_do(fd, &access), -EBUSY);
	assert_int_equal(byte, 0);
	assert_int_equal(mirror_stats(fd).walks, 0);
	assert_true(mirror_stats(fd).waits > 0);
	assert_true(mirror_stats(fd).running > 0);
	close(fd);
}

TEST(a_wait_ends_when_the_task_is_killed)
{
	pid_t child = fork_with_us();
	int status;

	if (!child) {
		int fd = open("/dev/invlock_mirror", O_RDWR);
		char *p = page_that_never_settles(), byte;
		struct invlock_mirror_access access = {
			.op = INVLOCK_MIRROR_READ,
			.addr = (unsigned long)p,
			.len = 1,
			.buffer = (unsigned long)&byte,
			/* an hour */
			.time_ns = 3600000000000ULL,
		};

		mirror_do(fd, &access);
		_exit(99);
	}
	assert_true(becomes_blocked(child));
	assert_int_equal(kill(child, SIGKILL), 0);
	/* if the child does not end, the alarm kills this test */
	alarm(60);
	status = wait_for(child);
	alarm(0);
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

TEST(a_lock_can_be_freed_while_an_invalidation_runs)
{
	int fd = mirror_open();
	char byte;

	assert_int_equal(mirror_read(fd, page_that_never_settles() + MIB, &byte, 0), -EINVAL);
	assert_true(mirror_stats(fd).running > 0);
	close(fd);
	/* a new lock starts without it */
	fd = mirror_open();
	assert_int_equal(mirror_stats(fd).running, 0);
	close(fd);
}

TEST_MAIN()
