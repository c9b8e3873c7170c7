// SPDX-License-Identifier: MIT
#include "guard.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/monitor/monitor.h"
#include "iter.h"
#include "invlock.skel.h"
#include "probe.skel.h"

#define AWAIT_NS	2000000000ULL

/* ---- is it needed? ---- */

static enum bpf_probe ask_probe(void)
{
	struct probe_bpf *probe = probe_bpf__open_and_load();
	u32 zero = 0, answer = BPF_PROBE_UNKNOWN;

	if (!probe)
		return BPF_PROBE_UNKNOWN;
	if (!probe_bpf__attach(probe)) {
		/* Any system call makes the probe run. */
		syscall(SYS_getppid);
		if (bpf_map_lookup_elem(bpf_map__fd(probe->maps.found), &zero, &answer))
			answer = BPF_PROBE_UNKNOWN;
	}
	probe_bpf__destroy(probe);
	return answer;
}

/*
 * A kernel without this function does not preempt its own code, so no task is preempted inside a
 * program.
 */
static bool kernel_has_preemption(void)
{
	FILE *symbols = fopen("/proc/kallsyms", "re");
	char line[512], name[256];
	bool found = !symbols;

	while (!found && fgets(line, sizeof(line), symbols))
		found = sscanf(line, "%*s %*s %255s", name) == 1 &&
			!strcmp(name, "preempt_schedule");
	if (symbols)
		fclose(symbols);
	return found;
}

bool guard_tracepoints_preemptible(void)
{
	return ask_probe() != BPF_PROBE_NOT_PREEMPTIBLE && kernel_has_preemption();
}

/* ---- loading it ---- */

static bool has_name(const struct bpf_program *prog, const char *name)
{
	return !strcmp(bpf_program__name(prog), name);
}

bool guard_is_temporary(const struct bpf_program *prog)
{
	return has_name(prog, "find_programs");
}

int guard_choose(struct invlock_bpf *skel, struct invlock_why *why)
{
	if (!skel->rodata->guard_is_possible)
		return explain(why, -EOPNOTSUPP, "this kernel may preempt the programs, and on "
			       "this architecture they cannot see when that hides a call");
	bpf_program__set_autoload(skel->progs.task_leaves, true);
	bpf_program__set_autoload(skel->progs.look, true);
	bpf_program__set_autoload(skel->progs.find_programs, true);
	skel->rodata->guarded = true;
	return 0;
}

static enum bpf_role role_of(const struct bpf_program *prog)
{
	if (has_name(prog, "task_exits") || has_name(prog, "task_execs"))
		return BPF_ROLE_LIFE;
	if (has_name(prog, "page_leaves") || has_name(prog, "tracing_changes"))
		return BPF_ROLE_ALL;
	if (!strncmp(bpf_program__name(prog), "request_", 8) ||
	    has_name(prog, "completion_overflows"))
		return BPF_ROLE_URING;
	return net_has_program(prog) ? BPF_ROLE_NET : BPF_ROLE_CALL;
}

static int list_programs(struct bpf_object *obj, struct bpf_guard *g)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, obj) {
		struct bpf_prog_info info = {};
		u32 size = sizeof(info);
		int err;

		if (!bpf_program__autoload(prog) || !bpf_program__autoattach(prog) ||
		    has_name(prog, "task_leaves"))
			continue;
		if (g->nr_programs == BPF_NR_GUARDED)
			return -E2BIG;
		err = bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &size);
		if (err)
			return err;
		g->program[g->nr_programs].id = info.id;
		g->program[g->nr_programs++].role = role_of(prog);
	}
	return 0;
}

static int find_programs(const struct bpf_object *obj)
{
	int prog = bpf_program__fd(bpf_object__find_program_by_name(obj, "find_programs"));
	int iter = iter_open(prog, NULL);

	return iter < 0 ? iter : iter_run(iter);
}

static int prepare(struct bpf_object *obj, struct bpf_guard *g, struct invlock_why *why)
{
	int map = bpf_object__find_map_fd_by_name(obj, "invlock_guard");
	int nr_cpus = libbpf_num_possible_cpus(), err;
	u32 zero = 0;

	if (nr_cpus < 1 || nr_cpus > BPF_NR_CPUS)
		return explain(why, -E2BIG, "it knows %d CPUs, not %d", BPF_NR_CPUS, nr_cpus);
	g->nr_cpus = nr_cpus;
	err = list_programs(obj, g);
	if (!err)
		err = bpf_map_update_elem(map, &zero, g, BPF_ANY);
	if (!err)
		err = find_programs(obj);
	if (!err)
		err = bpf_map_lookup_elem(map, &zero, g);
	if (err)
		return explain(why, err, "it cannot look at the programs: %s", strerror(-err));
	for (u32 i = 0; i < g->nr_programs; i++)
		if (!g->program[i].active || !g->program[i].stats)
			return explain(why, -ENOENT, "it does not find where the kernel counts "
				       "the runs of a program");
	return 0;
}

int guard_prepare(struct bpf_object *obj, struct invlock_why *why)
{
	struct bpf_guard *g = aligned_alloc(128, sizeof(*g));
	int err;

	if (!g)
		return explain(why, -ENOMEM, "out of memory");
	memset(g, 0, sizeof(*g));
	err = prepare(obj, g, why);
	free(g);
	return err;
}

/*
 * The guard learns from this thread what a task looks like that is not inside a program. If it does
 * not, it takes every task for one that may be inside, which is right, but slow.
 */
static int teach(int map)
{
	struct bpf_guard *g = aligned_alloc(128, sizeof(*g));
	const struct timespec nap = { .tv_nsec = 100000 };
	u32 zero = 0;
	int err;

	if (!g)
		return -ENOMEM;
	for (int i = 0; i < 10; i++) {
		nanosleep(&nap, NULL);
		err = bpf_map_lookup_elem(map, &zero, g);
		if (err || !g->teacher)
			break;
	}
	free(g);
	return err;
}

int guard_attach(struct bpf_object *obj, struct bpf_link **ret_link)
{
	struct bpf_link *link;
	int err;

	link = bpf_program__attach(bpf_object__find_program_by_name(obj, "task_leaves"));
	if (!link)
		return -errno;
	err = teach(bpf_object__find_map_fd_by_name(obj, "invlock_guard"));
	if (err) {
		bpf_link__destroy(link);
		return err;
	}
	*ret_link = link;
	return 0;
}

/* ---- at work ---- */

static void look_at(const struct progset *set, u32 cpu)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .flags = BPF_F_TEST_RUN_ON_CPU, .cpu = cpu);

	bpf_prog_test_run_opts(set->look, &run);
}

int guard_await(const struct progset *set, enum bpf_what what, u32 seat)
{
	struct timespec nap = { .tv_nsec = 1000000 };
	u64 deadline = port_now() + AWAIT_NS;
	u32 cpu = 0;
	int err;

	/*
	 * Each CPU is waited for only once: if no window that our feed does not know of is open
	 * there now, none will be, because the next window marks our feed.
	 */
	while ((err = progset_ask_of(set, what, seat, cpu)) >= 0) {
		if (!err) {
			cpu++;
			continue;
		}
		if (port_now() > deadline)
			return -EBUSY;
		look_at(set, cpu);
		nanosleep(&nap, NULL);
	}
	return err == -ENOENT ? 0 : err;
}

void guard_look(const struct progset *set, const struct bpf_user *user)
{
	for (u32 cpu = 0; cpu < BPF_NR_CPUS && port_load(&user->feed.blind); cpu++)
		if (port_load(&user->blind[cpu].number))
			look_at(set, cpu);
}
