// SPDX-License-Identifier: MIT
/* Of a library that was configured with -Dbpf=disabled. */
#include <errno.h>
#include <invlock/mm.h>

#include "tests/test.h"

static void is_not_in_this_build(const char *monitor)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = monitor };
	struct invlock_mm *mm = NULL;
	struct invlock_why why;

	assert_int_equal(invlock_mm_open(&o, &mm, &why), -EOPNOTSUPP);
	assert_null(mm);
	assert_non_null(strstr(why.text, "this build of the library has no bpf monitor"));
	assert_non_null(strstr(why.text, "-Dbpf=enabled"));
}

TEST(a_build_without_bpf_says_so_when_it_is_asked_for_bpf)
{
	is_not_in_this_build("bpf");
}

TEST(a_build_without_bpf_has_no_client_of_the_daemon)
{
	is_not_in_this_build("daemon");
}

TEST(a_build_without_bpf_still_has_manual)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "manual" };
	struct invlock_mm *mm;

	assert_int_equal(invlock_mm_open(&o, &mm, NULL), 0);
	invlock_mm_close(mm);
}

TEST_MAIN()
