// SPDX-License-Identifier: MIT
/*
 * May the programs that see the calls be at the functions of these, and not at the tracepoints
 * of all calls? Only where every one of them runs each time: see bpf/attach.h.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/monitor/monitor.h"
#include "progset.h"

#define NR_FUNCTIONS	64

/* what we want to know of the kernel's symbols */
struct functions {
	struct function {
		const char *name;
		bool found;
	} at[NR_FUNCTIONS];
	unsigned int nr;
};

/* NULL: not one at a function of a call, or what guards it */
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

/* the kernel's names are for everybody to read, if not where they lie */
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

/* of the functions whose names begin so: -1 = some are there and some are not */
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

/* Return: the file's first line is in text */
static bool read_line(const char *path, char *text, size_t size)
{
	FILE *f = fopen(path, "re");
	bool got = f && fgets(text, size, f);

	if (f)
		fclose(f);
	return got;
}

/*
 * Asked before the programs are loaded, which takes long, and again when they are attached:
 * from then on one of them sees whatever would change the answer.
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
	if (all_or_none(f, "__x64_") != 1 || all_or_none(f, "__ia32_") < 0 ||
	    !find(f, "proc_dointvec")->found)
		return explain(why, -EOPNOTSUPP,
			       "this kernel's functions are not those that are known");
	/* it may have a copy of a function where that is called, and no program there */
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
	/* the cheapest question first: many kernels have no such programs at all */
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
