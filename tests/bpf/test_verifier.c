// SPDX-License-Identifier: MIT
/*
 * The kernel checks each program along every path before it accepts it, and refuses a program for
 * which it would have to check a million instructions. How many it checks depends on the program,
 * on the kernel and on the compiler. Each program has a budget (budgets.h), so that one that
 * becomes harder to check is noticed long before some kernel refuses it.
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include "lib/monitor/bpf/progset.h"
#include "budgets.h"
#include "invlock.skel.h"
#include "loader.skel.h"
#include "probe.skel.h"
#include "rig.h"

static struct budget *budget_of(const char *name)
{
	for (size_t i = 0; i < NR_BUDGETS; i++)
		if (!strcmp(budgets[i].name, name))
			return &budgets[i];
	fail_msg("the program %s has no budget: give it one in tests/bpf/budgets.h", name);
	return NULL;
}

/* What info.name has is cut off after 15 characters. */
static void full_name(const struct bpf_prog_info *info, const struct bpf_func_info *func,
		      char *name, size_t size)
{
	struct btf *btf = btf__load_from_kernel_by_id(info->btf_id);

	assert_non_null(btf);
	snprintf(name, size, "%s",
		 btf__name_by_offset(btf, btf__type_by_id(btf, func->type_id)->name_off));
	btf__free(btf);
}

/* Return: true = it is within its budget */
static bool check_program(int prog)
{
	struct bpf_func_info funcs[64];
	struct bpf_prog_info info = {
		.func_info = (u64)funcs,
		.nr_func_info = 64,
		.func_info_rec_size = sizeof(funcs[0]),
	};
	const struct budget *budget;
	u32 size = sizeof(info);
	char name[64];

	assert_int_equal(bpf_obj_get_info_by_fd(prog, &info, &size), 0);
	assert_in_range(info.nr_func_info, 1, 64);
	full_name(&info, funcs, name, sizeof(name));
	budget = budget_of(name);
	print_message("# %s%6u of %6u instructions: %s\n",
		      info.verified_insns > budget->most ? "TOO MANY: " : "", info.verified_insns,
		      budget->most, name);
	/* Every kernel that has the monitor reports the number. */
	assert_int_not_equal(info.verified_insns, 0);
	return info.verified_insns <= budget->most;
}

static void check_set(void)
{
	struct invlock_mm mm;
	const struct progset *set;
	unsigned int nr_over = 0;

	/* a family of its own, so that no other test's set is asked */
	monitor_bpf_options.family = (u64)getpid();
	monitor_open(&mm);
	set = progset_of(&mm);
	assert_true(set->nr_programs > 3);
	for (unsigned int i = 0; i < set->nr_programs; i++)
		nr_over += !check_program(set->programs[i]);
	monitor_close(&mm);
	if (nr_over)
		fail_msg("programs over their budgets (tests/bpf/budgets.h): %u", nr_over);
}

static void expect_budgets(const struct bpf_object *obj)
{
	struct bpf_program *prog;

	assert_non_null(obj);
	bpf_object__for_each_program(prog, obj)
		budget_of(bpf_program__name(prog))->used = true;
}

TEST(every_program_has_a_budget_and_every_budget_a_program)
{
	struct invlock_bpf *invlock = invlock_bpf__open();
	struct loader_bpf *loader = loader_bpf__open();
	struct probe_bpf *probe = probe_bpf__open();

	expect_budgets(invlock->obj);
	expect_budgets(loader->obj);
	expect_budgets(probe->obj);
	/* of the calls, each architecture has functions of its own */
	for (size_t i = 0; i < NR_BUDGETS; i++)
		if (!budgets[i].used && !strstr(budgets[i].name, "s___"))
			fail_msg("no program is called %s: its budget is of no use",
				 budgets[i].name);
	invlock_bpf__destroy(invlock);
	loader_bpf__destroy(loader);
	probe_bpf__destroy(probe);
}

TEST(the_verifier_needs_no_more_than_its_budget_for_any_program)
{
	check_set();
}

TEST(at_the_tracepoints_the_verifier_needs_no_more_than_its_budget)
{
	monitor_bpf_options.tracepoints = true;
	check_set();
}

/* These ask the kernel something, and are gone before the set is complete. */
TEST(so_it_does_for_the_programs_that_ask_before_a_set_is_loaded)
{
	struct loader_bpf *loader;
	struct probe_bpf *probe;

	monitor_need();
	loader = loader_bpf__open_and_load();
	assert_non_null(loader);
	assert_true(check_program(bpf_program__fd(loader->progs.find_loaders)));
	loader_bpf__destroy(loader);
	probe = probe_bpf__open_and_load();
	assert_non_null(probe);
	assert_true(check_program(bpf_program__fd(probe->progs.probe)));
	probe_bpf__destroy(probe);
}

/* It tells the guard where the programs lie. */
TEST(so_it_does_for_the_program_that_the_guard_needs_once)
{
	struct invlock_bpf *invlock;
	struct bpf_program *prog;

	monitor_need();
	invlock = invlock_bpf__open();
	assert_non_null(invlock);
	bpf_object__for_each_program(prog, invlock->obj)
		bpf_program__set_autoload(prog, prog == invlock->progs.find_programs);
	assert_int_equal(invlock_bpf__load(invlock), 0);
	assert_true(check_program(bpf_program__fd(invlock->progs.find_programs)));
	invlock_bpf__destroy(invlock);
}

TEST_MAIN()
