// SPDX-License-Identifier: MIT
#include "doctor.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool/tool.h"

const char *const selftest_names[] = {
	[SELFTEST_NOT_RUN]	= "not run",
	[SELFTEST_PASSED]	= "passed",
	[SELFTEST_FAILED]	= "failed",
};

static int help(void)
{
	puts("usage: invlock doctor [--json] [--monitor NAME]\n\n"
	     "Tries every monitor on this host and tells which one a cache would choose.\n"
	     "A monitor tells a program when its memory map changes. For each monitor, doctor\n"
	     "finds out whether it opens, whether its self-test passes, and which of all known\n"
	     "ways to change a memory map it sees.\n\n"
	     "  -m, --monitor NAME  try only this monitor: kmod, bpf, daemon, uffd or manual\n"
	     "  -j, --json          write one JSON object instead of text\n"
	     "  -h, --help          print this help\n\n"
	     "Exit code: 0 if a monitor works that sees every kind of change that caches need,\n"
	     "1 if none does, 2 if an option is wrong.");
	return TOOL_OK;
}

u64 finding_lacks(const struct finding *f)
{
	return INVLOCK_KINDS_DEFAULT & ~(f->seen | f->monitor->refused);
}

/* Return: how many changes the monitor missed although it claims to see their kind. */
static unsigned int broken_claims(const struct finding *f)
{
	const struct map_change *c;
	unsigned int nr = 0;

	for (unsigned int i = 0; (c = map_change_at(i)); i++)
		nr += f->results[i].verdict == CHANGE_MISSED && f->seen >> c->kind & 1;
	return nr;
}

/* Does this monitor work, and has the user not excluded it? */
static bool works(const struct finding *f)
{
	const char *environment = monitor_in_environment();

	return !f->err && f->selftest == SELFTEST_PASSED &&
	       (!environment || !strcmp(environment, f->monitor->name));
}

/* What can happen if a monitor does not see this kind, or why nothing happens. */
static const char *harm(enum invlock_kind kind)
{
	switch (kind) {
	case INVLOCK_KIND_PROTECT:
		return "a registration may keep access that the program gave up, but it names "
		       "the right pages";
	case INVLOCK_KIND_MOVE:
		return "this is harmless, because the kernel never moves a pinned page";
	default:
		return "caches need this kind by default, so they refuse this monitor unless "
		       "the program needs fewer kinds";
	}
}

void result_reason(const struct finding *f, const struct map_change *c,
		   const struct change_result *r, char *ret_text, size_t len)
{
	const struct monitor *m = f->monitor;

	if (f->err)
		snprintf(ret_text, len, "the monitor cannot be used");
	else if (r->verdict == CHANGE_SEEN && !(f->seen >> c->kind & 1))
		snprintf(ret_text, len, "it saw this change, but it does not claim to see every "
			 "change of this kind");
	else if (r->verdict != CHANGE_MISSED)
		snprintf(ret_text, len, "%s", r->reason);
	else if (m->sees_what_it_is_told)
		snprintf(ret_text, len, "%s",
			 "it sees what the program reports, and doctor reports nothing");
	else if (f->seen >> c->kind & 1)
		snprintf(ret_text, len, "it claims to see this kind, so this is a defect: do not "
			 "use this monitor here");
	else
		snprintf(ret_text, len, "it does not claim to see this kind; %s", harm(c->kind));
}

/* No cache can choose a monitor, so say what the user can do. @only: as in recommend() */
static void recommend_remedy(struct report *r, const char *only)
{
	struct invlock_why *to = &r->recommendation;
	const struct finding *f = r->with_fewer_kinds;
	const char *environment = monitor_in_environment();
	char names[KIND_NAMES];

	if (only && r->findings[0].err) {
		explain(to, 0, "no cache can use %s here, for the reason that is given under "
			"\"Monitors\"", only);
	} else if (only) {
		explain(to, 0, "caches use %s only if the program names it or needs fewer kinds; "
			"run `invlock doctor` without --monitor to try all monitors", only);
	} else {
		explain(to, 0, "caches that need every kind marked * below cannot choose a monitor "
			"here, so they do not open. Follow the advice under \"Monitors\"");
		if (environment)
			explain_more(to, ", or unset INVLOCK_MONITOR, which leaves only %.100s to "
				     "choose", environment);
	}
	if (f) {
		name_kinds(names, finding_lacks(f));
		explain_more(to, ". Where that cannot be had, %s works. It does not see %s; %s",
			     f->monitor->name, names,
			     monitor_advice(f->monitor, finding_lacks(f)));
	}
}

/* Find what a cache chooses: the first monitor that works and sees what the cache needs. */
static void choose(struct report *r)
{
	for (unsigned int i = 0; i < r->nr_findings; i++) {
		const struct finding *f = &r->findings[i];

		if (!works(f))
			continue;
		if (!r->chosen && monitor_can_be_chosen(f->monitor, f->seen, f->exact,
							INVLOCK_KINDS_DEFAULT))
			r->chosen = f;
		if (!r->with_fewer_kinds && monitor_advice(f->monitor, finding_lacks(f)) &&
		    monitor_can_be_chosen(f->monitor, f->seen, f->exact, f->monitor->ready))
			r->with_fewer_kinds = f;
	}
	if (r->chosen)
		r->with_fewer_kinds = NULL;
}

/* @only: the monitor that the user has named, or NULL if all were tried */
static void recommend(struct report *r, const char *only)
{
	unsigned int broken;

	choose(r);
	broken = r->chosen ? broken_claims(r->chosen) : 0;
	if (broken) {
		explain(&r->recommendation, 0, "do not cache on this host: caches would choose %s, "
			"which missed %u changes that it claims to see", r->chosen->monitor->name,
			broken);
		r->chosen = NULL;
	} else if (r->chosen) {
		explain(&r->recommendation, 0, "nothing to do: caches choose %s, which sees every "
			"kind of change that they need by default%s", r->chosen->monitor->name,
			monitor_in_environment() ?
			". INVLOCK_MONITOR leaves no other to choose" : "");
	} else {
		recommend_remedy(r, only);
	}
}

/* Return: monitor number @nr of those called @name, or of all if @name is NULL; NULL = none. */
static const struct monitor *select_monitor(unsigned int nr, const char *name)
{
	unsigned int left = nr;

	for (unsigned int i = 0; monitors[i]; i++)
		if ((!name || !strcmp(name, monitors[i]->name)) && !left--)
			return monitors[i];
	return NULL;
}

static int unknown_monitor(const char *name)
{
	fprintf(stderr, "invlock doctor: there is no monitor \"%s\"; the monitors are", name);
	for (unsigned int i = 0; monitors[i]; i++)
		fprintf(stderr, "%s %s", i ? "," : "", monitors[i]->name);
	fputs("\n", stderr);
	return TOOL_USAGE;
}

static int examine(const char *name, bool json)
{
	struct report *r = calloc(1, sizeof(*r));
	const struct monitor *m;
	int err = 0, code;

	if (!r) {
		fputs("invlock doctor: out of memory\n", stderr);
		return TOOL_FAILED;
	}
	while (r->nr_changes < MAX_CHANGES && map_change_at(r->nr_changes))
		r->nr_changes++;
	probe_host(&r->host);
	probe_rdma(&r->rdma, NULL);
	while (r->nr_findings < MAX_MONITORS && (m = select_monitor(r->nr_findings, name))) {
		r->findings[r->nr_findings].monitor = m;
		probe_monitor(&r->findings[r->nr_findings++], r->nr_changes);
	}
	recommend(r, name);
	if (json)
		err = print_json(r);
	else
		print_text(r);
	if (err || fflush(stdout)) {
		fputs("invlock doctor: cannot write the report to standard output\n", stderr);
		r->chosen = NULL;
	}
	code = r->chosen ? TOOL_OK : TOOL_FAILED;
	free(r);
	return code;
}

int cmd_doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "monitor", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	const char *name = NULL;
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "jm:h", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			json = true;
			break;
		case 'm':
			name = optarg;
			break;
		case 'h':
			return help();
		default:
			/* getopt_long() has printed what is wrong */
			return TOOL_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "invlock doctor: unexpected argument \"%s\"\n", argv[optind]);
		return TOOL_USAGE;
	}
	if (name && !select_monitor(0, name))
		return unknown_monitor(name);
	return examine(name, json);
}
