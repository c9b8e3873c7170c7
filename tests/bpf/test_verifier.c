// SPDX-License-Identifier: MIT
/*
 * The kernel checks each program along every path before it accepts it, and refuses a program for
 * which it would have to check a million instructions. How many it checks depends on the kernel.
 * Each of our programs stays well below the limit, so that the next kernel accepts it, too.
 */
#include <bpf/bpf.h>
#include "lib/monitor/bpf/progset.h"
#include "rig.h"

#define BUDGET	600000

static struct bpf_prog_info info_of(int prog)
{
	struct bpf_prog_info info = {};
	u32 size = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(prog, &info, &size), 0);
	return info;
}

static void check_programs(void)
{
	struct bpf_prog_info most = {}, info;
	struct invlock_mm mm;
	const struct progset *set;

	/* a family of its own, so that no other test's set is asked */
	monitor_bpf_options.family = (u64)getpid();
	monitor_open(&mm);
	set = progset_of(&mm);
	assert_true(set->nr_programs > 3);
	for (unsigned int i = 0; i < set->nr_programs; i++) {
		info = info_of(set->programs[i]);
		if (info.verified_insns > most.verified_insns)
			most = info;
		if (info.verified_insns > BUDGET)
			fail_msg("%s: the kernel checked %u instructions, the budget is %u",
				 info.name, info.verified_insns, BUDGET);
	}
	/* Older kernels do not report the number. */
	if (!most.verified_insns) {
		monitor_close(&mm);
		TEST_SKIP("this kernel does not report how many instructions it checked");
	}
	print_message("# %u programs, the most is %u instructions, for %s\n", set->nr_programs,
		      most.verified_insns, most.name);
	monitor_close(&mm);
}

TEST(the_verifier_needs_no_more_than_its_budget_for_any_program)
{
	check_programs();
}

TEST(at_the_tracepoints_the_verifier_needs_no_more_than_its_budget)
{
	monitor_bpf_options.tracepoints = true;
	check_programs();
}

TEST_MAIN()
