// SPDX-License-Identifier: MIT
/* The tests of test_tool.c, on a kernel without the module: the command uses the BPF monitor. */
#include "tests/test.h"
#include "tool_rig.h"

TEST(doctor_finds_that_bpf_works_here)
{
	check_doctor("bpf");
}

TEST(doctor_chooses_bpf_where_there_is_no_module)
{
	check_chosen("bpf");
}

TEST(prove_with_bpf_and_io_uring_shows_invlock_never_stale_and_naive_stale)
{
	check_prove("bpf", "uring");
}

TEST(prove_with_bpf_and_the_soft_device_shows_the_same)
{
	check_prove("bpf", "soft");
}

TEST(prove_with_uffd_and_the_soft_device_shows_the_same)
{
	need_monitor("uffd");
	check_prove("uffd", "soft");
}

TEST_MAIN()
