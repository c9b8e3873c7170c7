// SPDX-License-Identifier: MIT
/* Bad input is refused with one sentence on stderr that names the mistake. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rig.h"
#include "tests/test.h"

static struct said said;

static void refused(int code, const char *names)
{
	if (said.code != code)
		print_message("%s\n", said.err);
	assert_int_equal(said.code, code);
	assert_string_equal(said.out, "");
	if (!strstr(said.err, names))
		fail_msg("'%s' does not name %s", said.err, names);
	/* there is no second line */
	assert_ptr_equal(strchr(said.err, '\n'), said.err + strlen(said.err) - 1);
}

TEST(a_number_that_is_malformed_zero_negative_or_too_large_is_refused)
{
	static const char *const wrong[] = {
		"0", "-1", "x", "", "3x", "1.5", "99999999999999999999",
	};

	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		PROVE(&said, NULL, "--seconds", wrong[i]);
		refused(2, "--seconds");
		PROVE(&said, NULL, "--threads", wrong[i]);
		refused(2, "--threads");
	}
	PROVE(&said, NULL, "--threads", "1025");
	refused(2, "1024");
}

TEST(unknown_names_are_refused_and_the_known_ones_listed)
{
	PROVE(&said, NULL, "--monitor", "crystal-ball");
	refused(2, "uffd");
	PROVE(&said, NULL, "--device", "abacus");
	refused(2, "soft");
	PROVE(&said, NULL, "--wish");
	refused(2, "--wish");
	PROVE(&said, NULL, "--json", "-xh");
	refused(2, "'-x'");
	PROVE(&said, NULL, "-f");
	refused(2, "'-f'");
	PROVE(&said, NULL, "--json=yes");
	refused(2, "'--json=yes'");
	PROVE(&said, NULL, "--file");
	refused(2, "--file");
	PROVE(&said, NULL, "more");
	refused(2, "more");
}

TEST(manual_cannot_be_proved_whoever_names_it)
{
	PROVE(&said, NULL, "--monitor", "manual");
	refused(2, "manual cannot be proved");
	setenv("INVLOCK_MONITOR", "manual", 1);
	PROVE(&said, NULL, "--seconds", "1");
	unsetenv("INVLOCK_MONITOR");
	refused(2, "only a program that reports its changes may name manual");
}

static void with_file(const char *path, int code, const char *names)
{
	PROVE(&said, NULL, "--seconds", "1", "--file", path);
	refused(code, names);
}

TEST(a_file_without_random_access_is_refused)
{
	with_file("/nonexistent/file", 2, "/nonexistent/file");
	with_file("/var/tmp", 2, "directory");
	with_file("/dev/null", 2, "/dev/null");
}

TEST(an_empty_file_and_one_smaller_than_a_block_are_refused)
{
	char name[] = "/var/tmp/invlock-test-XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	with_file(name, 2, "0 bytes");
	assert_int_equal(write(fd, "invlock", 7), 7);
	with_file(name, 2, "7 bytes");
	close(fd);
	unlink(name);
}

TEST(a_file_that_the_user_may_not_read_is_refused)
{
	const struct as nobody = { .uid = 65534 };
	char name[] = "/var/tmp/invlock-test-XXXXXX";
	int fd;

	if (geteuid())
		TEST_SKIP("needs root, to run the command as another user");
	fd = mkstemp(name);
	assert_true(fd >= 0);
	close(fd);
	PROVE(&said, &nobody, "--file", name);
	unlink(name);
	refused(2, strerror(EACCES));
}

TEST(a_directory_without_room_for_files_is_named)
{
	const struct as as = { .tmpdir = "/nonexistent/dir" };

	PROVE(&said, &as, "--seconds", "1");
	assert_int_not_equal(said.code, 0);
	assert_string_equal(said.out, "");
	assert_non_null(strstr(said.err, "/nonexistent/dir"));
}

TEST_MAIN()
