// SPDX-License-Identifier: MIT
/*
 * Runs the command, with its libraries, as users build it. Does the module's monitor pass its
 * self-test on this kernel? Is invlock never stale where a cache without checks is stale?
 */
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <invlock/mm.h>

#include "tests/test.h"
#include "tool_rig.h"

#define NOBODY	65534

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

static void hold_feed(uid_t uid, int to)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "kmod" };
	struct invlock_mm *mm;
	struct invlock_why why;

	/* as a process that the user has started: ps reads what it has mapped */
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid) ||
	    prctl(PR_SET_DUMPABLE, 1) || prctl(PR_SET_PDEATHSIG, SIGKILL) ||
	    invlock_mm_open(&o, &mm, &why) || write(to, "", 1) != 1)
		_exit(1);
	pause();
}

/* Return: a process of this user that has a feed of the module. */
static pid_t start_holder(uid_t uid)
{
	int ready[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		hold_feed(uid, ready[1]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static void end_holder(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

TEST(ps_lists_the_feeds_of_the_module_to_root_and_to_a_user_its_own)
{
	pid_t roots = start_holder(0), nobodys = start_holder(NOBODY);

	assert_true(is_listed(roots, "kmod", 0, AS_WE_ARE));
	assert_true(is_listed(nobodys, "kmod", NOBODY, AS_WE_ARE));
	assert_true(is_listed(nobodys, "kmod", NOBODY, AS_NOBODY));
	assert_false(is_listed(roots, "kmod", 0, AS_NOBODY));
	end_holder(nobodys);
	assert_false(is_listed(nobodys, "kmod", NOBODY, AS_WE_ARE));
	assert_true(is_listed(roots, "kmod", 0, AS_WE_ARE));
	end_holder(roots);
}

TEST_MAIN()
