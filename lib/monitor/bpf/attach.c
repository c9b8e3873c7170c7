// SPDX-License-Identifier: MIT
/*
 * Decides whether the programs that see the calls may be attached at the functions of these calls,
 * or must be at the tracepoints of all calls. They may be at the functions only if the kernel runs
 * each of them every time: see bpf/attach.h.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/monitor/monitor.h"
#include "progset.h"

#define NR_FUNCTIONS	64

/* The names that we look for among the kernel's symbols. */
struct functions {
	struct function {
		const char *name;
		bool found;
	} at[NR_FUNCTIONS];
	unsigned int nr;
};

/*
 * Return: the function that a program is attached at; NULL = it is at no function, or belongs to
 * the net.
 */
static const char *function_of(const struct bpf_program *prog)
{
	const char *section = bpf_program__section_name(prog);

	if ((strncmp(section, "fentry/", 7) && strncmp(section, "fexit/", 6)) ||
	    net_has_program(prog))
		return NULL;
	return strchr(section, '/') + 1;
}

static int by_name(const void *a, const void *b)
{
	const struct function *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static struct function *find(struct functions *f, const char *name)
{
	struct function key = { .name = name };

	return bsearch(&key, f->at, f->nr, sizeof(*f->at), by_name);
}

static void add(struct functions *f, const char *name)
{
	if (f->nr < NR_FUNCTIONS)
		f->at[f->nr].name = name;
	f->nr++;
}

/* Every user may read the names of the kernel's symbols, though not their addresses. */
static int look_for(struct functions *f, struct invlock_why *why)
{
	FILE *symbols = fopen("/proc/kallsyms", "re");
	struct function *found;
	char line[512], name[256];

	if (!symbols)
		return explain(why, -errno, "/proc/kallsyms: %s", strerror(errno));
	qsort(f->at, f->nr, sizeof(*f->at), by_name);
	while (fgets(line, sizeof(line), symbols)) {
		found = sscanf(line, "%*s %*s %255s", name) == 1 ? find(f, name) : NULL;
		if (found)
			found->found = true;
	}
	fclose(symbols);
	return 0;
}

/*
 * Of our functions whose names begin with the prefix, does the kernel have all (1), none (0), or
 * some (-1)?
 */
static int all_or_none(const struct functions *f, const char *prefix)
{
	unsigned int nr = 0, found = 0;

	for (unsigned int i = 0; i < f->nr; i++) {
		if (strncmp(f->at[i].name, prefix, strlen(prefix)))
			continue;
		nr++;
		found += f->at[i].found;
	}
	return found == nr ? 1 : found ? -1 : 0;
}

/* Return: true = the first line of the file is in text. */
static bool read_line(const char *path, char *text, size_t size)
{
	FILE *f = fopen(path, "re");
	bool got = f && fgets(text, size, f);

	if (f)
		fclose(f);
	return got;
}

/*
 * This is asked before the programs are loaded, which takes long, and again after they are
 * attached: from then on, one of them sees any write that would change the answer.
 */
int attach_ask_kernel(struct invlock_why *why)
{
	char line[256] = "";

	if (!read_line("/proc/sys/kernel/ftrace_enabled", line, sizeof(line)) || line[0] != '1')
		return explain(why, -EOPNOTSUPP, "kernel.ftrace_enabled is not 1");
	return 0;
}

static int check(struct functions *f, bool *ret_preemptible, struct invlock_why *why)
{
	char line[256];
	int err = look_for(f, why);

	if (err)
		return err;
	/* Of each pair one is for other machines: none of its functions is among ours. */
	if (all_or_none(f, "__x64_") != 1 || all_or_none(f, "__ia32_") < 0 ||
	    all_or_none(f, "__arm64_sys_") != 1 || all_or_none(f, "__arm64_compat_") < 0 ||
	    !find(f, "proc_dointvec")->found)
		return explain(why, -EOPNOTSUPP,
			       "this kernel's functions are not those that are known");
	/*
	 * Such a kernel may have inlined copies of a function in its callers, where no program
	 * runs.
	 */
	if (!read_line("/proc/version", line, sizeof(line)) || strstr(line, "clang"))
		return explain(why, -EOPNOTSUPP, "this kernel was built by clang");
	*ret_preemptible = find(f, "preempt_schedule")->found;
	return 0;
}

int attach_to_functions(struct bpf_object *obj, bool *ret_preemptible, struct invlock_why *why)
{
	struct functions f = {};
	struct bpf_program *prog;
	struct function *found;
	const char *name;
	/* Ask the cheapest question first: many kernels have no such programs at all. */
	int err = attach_ask_kernel(why);

	if (err)
		return err;
	bpf_object__for_each_program(prog, obj) {
		name = function_of(prog);
		if (name && bpf_program__expected_attach_type(prog) == BPF_TRACE_FENTRY)
			add(&f, name);
	}
	add(&f, "preempt_schedule");
	if (f.nr > NR_FUNCTIONS)
		return explain(why, -E2BIG, "%u functions", f.nr);
	err = check(&f, ret_preemptible, why);
	if (err)
		return err;
	bpf_object__for_each_program(prog, obj) {
		name = function_of(prog);
		found = name ? find(&f, name) : NULL;
		if (found && found->found)
			bpf_program__set_autoload(prog, true);
	}
	return attach_ask_kernel(why);
}
