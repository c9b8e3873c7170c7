// SPDX-License-Identifier: MIT
/* If something is missing, prove says so and runs what it can. It leaves nothing behind. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rig.h"
#include "tests/seccomp.h"
#include "tests/test.h"

#define NOBODY	65534

static struct said said;

TEST(without_privilege_the_soft_device_proves_it)
{
	const struct as nobody = { .uid = geteuid() ? 0 : NOBODY };

	PROVE_UNTIL_JUDGED(&said, &nobody, "--device", "soft");
	if (said.code == 3)
		TEST_SKIP("no monitor: %.*s", (int)strcspn(said.err, "\n"), said.err);
	expect_proof(&said);
}

TEST(without_privilege_something_proves_it)
{
	const struct as nobody = { .uid = geteuid() ? 0 : NOBODY };

	PROVE_UNTIL_JUDGED(&said, &nobody);
	if (said.code == 3)
		TEST_SKIP("no monitor: %.*s", (int)strcspn(said.err, "\n"), said.err);
	expect_proof(&said);
}

static void forbid_uring(void)
{
	const long refused[] = { SYS_io_uring_setup };

	if (!refuse_calls(refused, 1))
		_exit(98);
}

/* Forbids the calls that a container forbids. */
static void forbid_calls(void)
{
	const long refused[] = { SYS_bpf, SYS_userfaultfd };

	if (!refuse_calls(refused, 2))
		_exit(98);
}

TEST(where_io_uring_is_forbidden_it_says_so_and_takes_the_soft_device)
{
	const struct as contained = { .prepare = forbid_uring };

	PROVE_UNTIL_JUDGED(&said, &contained);
	if (said.code == 98)
		TEST_SKIP("no seccomp filters here");
	expect_proof(&said);
	assert_non_null(strstr(said.out, "device soft, "));
	assert_non_null(strstr(said.out, "note: cannot set up io_uring"));

	PROVE(&said, &contained, "--seconds", "2", "--device", "uring");
	expect(&said, 3);
	assert_non_null(strstr(said.err, "--device soft"));
}

TEST(where_no_monitor_works_it_says_why_and_proves_nothing)
{
	const struct as contained = { .prepare = forbid_calls };

	if (!access("/dev/invlock", R_OK))
		TEST_SKIP("the kernel module is loaded here");
	PROVE(&said, &contained, "--seconds", "2");
	if (said.code == 98)
		TEST_SKIP("no seccomp filters here");
	expect(&said, 3);
	assert_string_equal(said.out, "");
	assert_non_null(strstr(said.err, "bpf: "));
	assert_non_null(strstr(said.err, "uffd: "));
	assert_non_null(strstr(said.err, "`invlock doctor`"));
}

/* A limit that has room for the rings, which newer kernels count, and for a buffer or two. */
static void little_memlock(void)
{
	const struct rlimit little = { 64 << 10, 64 << 10 };

	setrlimit(RLIMIT_MEMLOCK, &little);
}

TEST(a_run_in_which_hardly_anything_can_be_cached_proves_nothing)
{
	const struct as as = { .uid = NOBODY, .prepare = little_memlock };

	if (geteuid())
		TEST_SKIP("needs root, to run the command as another user");
	PROVE(&said, &as, "--seconds", "2", "--threads", "1", "--device", "uring");
	if (said.code == 3)
		TEST_SKIP("no io_uring here: %.*s", (int)strcspn(said.err, "\n"), said.err);
	expect(&said, 1);
	assert_non_null(strstr(said.out, "Nothing is proved"));
}

TEST(with_uffd_it_names_what_was_left_out_and_that_uffd_is_not_exact)
{
	PROVE(&said, NULL, "--seconds", "2", "--monitor", "uffd");
	if (said.code == 3)
		TEST_SKIP("no usable userfaultfd: %.*s", (int)strcspn(said.err, "\n"), said.err);
	/* uffd is not exact, so a stale use is possible; but it must not be hidden */
	assert_true(said.code == 0 || said.code == 1);
	assert_non_null(strstr(said.out, "left out: guard pages: the monitor uffd does not see"));
	assert_non_null(strstr(said.out, "not exact for these kinds: "));
	/* the same advice as from doctor and the errors */
	assert_non_null(strstr(said.out,
			       "does not see these kinds of change: guard and shm-remap; "));
	assert_non_null(strstr(said.out, "sets need to INVLOCK_KINDS_UFFD"));
}

TEST(a_file_on_tmpfs_is_read_without_direct_io)
{
	char name[] = "/dev/shm/invlock-test-XXXXXX";
	int fd = mkstemp(name);

	if (fd < 0)
		TEST_SKIP("no /dev/shm: %s", strerror(errno));
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	PROVE_UNTIL_JUDGED(&said, NULL, "--file", name);
	unlink(name);
	expect_proof(&said);
}

TEST(no_file_is_left_behind_in_whatever_way_the_run_ends)
{
	char name[64];
	struct as as = { .tmpdir = name };

	make_directory(name);
	PROVE(&said, &as, "--seconds", "1");
	assert_int_equal(rmdir(name) | mkdir(name, 0777), 0);
	as.signal_after_ms = 1500;
	as.signal = SIGKILL;
	PROVE(&said, &as, "--seconds", "60");
	assert_int_equal(said.code, 1000 + SIGKILL);
	remove_empty_directory(name);
}

TEST_MAIN()
