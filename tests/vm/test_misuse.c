// SPDX-License-Identifier: MIT
/*
 * A driver that leaves its fault loop in the middle: the kernel's log says so, the fault ends
 * with an error, and no lock is left behind.
 */
#include "drill_device.h"

#include <sys/klog.h>

#define READ_AND_CLEAR	4

/* all that the kernel complains about, which is then gone: warnings of fault.c, and so many */
static void check_warnings(unsigned int wanted)
{
	static char log[1 << 20];
	unsigned int warnings = 0;
	int len = klogctl(READ_AND_CLEAR, log, sizeof(log) - 1);

	assert_true(len >= 0);
	log[len] = '\0';
	for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
		if (!strstr(line, "WARNING:") && !strstr(line, "BUG:"))
			continue;
		/* with its folder or without, which is a matter of the kernel */
		if (!strstr(line, "fault.c:"))
			fail_msg("the kernel says: %s", line);
		warnings++;
	}
	assert_int_equal(warnings, wanted);
}

static int fault(int fd, char *p, unsigned int how)
{
	struct drill drill = { .addr = (unsigned long)p, .len = PAGE, .how = how };
	int err = drill_do(fd, DRILL_FAULT, &drill);

	assert_int_equal(drill.rounds, 1);
	return err;
}

static void check_misuse(unsigned int how)
{
	char *p = map_anon(2 * PAGE);
	int fd = drill_open();

	assert_int_equal(fault(fd, p, how), -EINVAL);
	check_warnings(1);
	/* the mmap lock is free: else the alarm ends this test */
	alarm(60);
	munmap(p + PAGE, PAGE);
	alarm(0);
	/* and nothing of that fault is in the way of the next */
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	assert_int_equal(fault(fd, p, 0), 0);
	munmap(p, PAGE);
	close(fd);
	check_warnings(0);
}

TEST(a_loop_that_is_left_without_its_commit_is_told_so_and_leaves_no_lock)
{
	check_misuse(DRILL_LEAVE);
}

TEST(so_is_one_that_goes_round_without_its_commit)
{
	check_misuse(DRILL_NO_COMMIT);
}

TEST_MAIN()
