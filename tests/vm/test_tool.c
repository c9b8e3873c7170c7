// SPDX-License-Identifier: MIT
/*
 * Runs the command, with its libraries, as users build it. Does the module's monitor pass its
 * self-test on this kernel? Is invlock never stale where a cache without checks is stale?
 */
#include "tests/test.h"
#include "tool_rig.h"

TEST(doctor_finds_that_kmod_works_here)
{
	check_doctor("kmod");
}

TEST(doctor_chooses_kmod_before_all_others)
{
	check_chosen("kmod");
}

TEST(prove_with_io_uring_shows_invlock_never_stale_and_naive_stale)
{
	check_prove("kmod", "uring");
}

TEST(prove_with_the_soft_device_shows_the_same)
{
	check_prove("kmod", "soft");
}

TEST_MAIN()
