// SPDX-License-Identifier: MIT
/* Kernels that are locked down: the sentences say so. */
#include <fcntl.h>
#include <invlock/mm.h>

#include "lib/lockdown.h"
#include "lib/monitor/bpf/progset.h"
#include "tests/test.h"

static char path[] = "invlock-lockdown-XXXXXX";

/* the kernel says this from now on; NULL = it has no such file */
static void kernel_says(const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	lockdown_file = text ? path : "/nowhere";
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text ?: "", strlen(text ?: "")), (ssize_t)strlen(text ?: ""));
	close(fd);
}

static int before_all(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	close(fd);
	return fd < 0;
}

static int after_all(void **state)
{
	(void)state;
	return unlink(path);
}

TEST(the_mode_is_the_one_in_brackets)
{
	kernel_says("none [integrity] confidentiality\n");
	assert_string_equal(lockdown_mode(), "integrity");
	kernel_says("none integrity [confidentiality]\n");
	assert_string_equal(lockdown_mode(), "confidentiality");
	kernel_says("[none] integrity confidentiality\n");
	assert_null(lockdown_mode());
	kernel_says("");
	assert_null(lockdown_mode());
	kernel_says(NULL);
	assert_null(lockdown_mode());
}

TEST(a_refused_program_is_explained_by_lockdown_and_by_nothing_else)
{
	struct invlock_why why = { "the kernel refuses the BPF program: Invalid argument" };

	kernel_says("[none] integrity confidentiality\n");
	explain_lockdown(&why);
	assert_string_equal(why.text, "the kernel refuses the BPF program: Invalid argument");
	kernel_says("none integrity [confidentiality]\n");
	explain_lockdown(&why);
	assert_non_null(strstr(why.text, "Invalid argument; the reason"));
	assert_non_null(strstr(why.text, "lockdown=integrity"));
}

TEST(where_the_kernel_is_locked_down_the_module_has_to_be_signed)
{
	const struct invlock_mm_options o = { .size = sizeof(o), .monitor = "kmod" };
	struct invlock_why why;
	struct invlock_mm *mm;

	if (!access("/dev/invlock", F_OK))
		TEST_SKIP("the module is loaded here");
	kernel_says("none [integrity] confidentiality\n");
	assert_true(invlock_mm_open(&o, &mm, &why) < 0);
	assert_non_null(strstr(why.text, "locked down (integrity)"));
	assert_non_null(strstr(why.text, "signed"));
	/* an unsigned module is not cured by loading it */
	assert_null(strstr(why.text, "modprobe"));
	kernel_says(NULL);
	assert_true(invlock_mm_open(&o, &mm, &why) < 0);
	assert_null(strstr(why.text, "signed"));
}

TEST_MAIN(.before_all = before_all, .after_all = after_all)
