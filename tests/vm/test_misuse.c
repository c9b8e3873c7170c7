// SPDX-License-Identifier: MIT
/*
 * A driver leaves its fault loop between attempt and commit. The kernel's log warns about it, the
 * fault ends with an error, and no lock stays held.
 */
#include "drill_device.h"

#include <sys/klog.h>

#define READ_AND_CLEAR	4

/* Read and clear the kernel's log: it must contain @wanted warnings of that file and no others. */
static void check_warnings_of(const char *file, unsigned int wanted)
{
	static char log[1 << 20];
	unsigned int warnings = 0;
	int len = klogctl(READ_AND_CLEAR, log, sizeof(log) - 1);

	assert_true(len >= 0);
	log[len] = '\0';
	for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
		if (!strstr(line, "WARNING:") && !strstr(line, "BUG:"))
			continue;
		/* some kernels print the file with its folder, others without */
		if (!strstr(line, file))
			fail_msg("the kernel's log has another complaint: %s", line);
		warnings++;
	}
	assert_int_equal(warnings, wanted);
}

static void check_warnings(unsigned int wanted)
{
	check_warnings_of("fault.c:", wanted);
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
	/* if the mmap lock is still held, the alarm ends this test */
	alarm(60);
	munmap(p + PAGE, PAGE);
	alarm(0);
	/* the next fault works */
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	assert_int_equal(fault(fd, p, 0), 0);
	munmap(p, PAGE);
	close(fd);
	check_warnings(0);
}

TEST(a_loop_that_is_left_without_a_commit_warns_and_leaves_no_lock)
{
	check_misuse(DRILL_LEAVE);
}

TEST(a_loop_that_goes_round_without_a_commit_warns_and_leaves_no_lock)
{
	check_misuse(DRILL_NO_COMMIT);
}

static void check_surplus_end(size_t len, unsigned int warnings)
{
	char *p = map_aligned(2 * len);
	int fd = drill_open();
	struct drill drill = {
		.addr = (unsigned long)p,
		.len = len,
		.how = DRILL_SURPLUS_END,
	};

	assert_int_equal(drill_do(fd, DRILL_FAULT, &drill), -ENOTRECOVERABLE);
	check_warnings_of("mmu_invlock.c:", warnings);
	close(fd);
}

TEST(an_end_without_a_start_is_found_while_others_run)
{
	check_surplus_end(2 * MIB, 1);
}

TEST(an_end_without_a_start_is_found_while_others_run_that_are_too_wide_for_stripes)
{
	/* the same line has warned, and does so only once */
	check_surplus_end(512 * MIB, 0);
}

TEST_MAIN()
