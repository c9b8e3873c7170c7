// SPDX-License-Identifier: MIT
/*
 * Chooses the monitor, and the changes that are made with it.
 *
 * A change that the monitor does not claim to see would make registrations stale, and nobody would
 * be at fault. Such a change is left out, and the report says so. A change that the monitor sees,
 * but not exactly, is made.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/monitor/monitor.h"
#include "prove.h"

bool change_is_attempted(const struct prove *p, unsigned int nr)
{
	return !p->not_attempted[nr][0];
}

static u64 kinds_attempted(const struct prove *p)
{
	u64 kinds = 0;

	for (unsigned int i = 0; i < nr_prove_changes; i++)
		if (change_is_attempted(p, i))
			kinds |= prove_changes[i].kinds;
	return kinds;
}

static void leave_out_unseen(struct prove *p, const struct monitor *monitor)
{
	char names[KIND_NAMES];

	for (unsigned int i = 0; i < nr_prove_changes; i++) {
		u64 unseen = prove_changes[i].kinds & ~(monitor->seen | monitor->refused);

		if (!unseen || !change_is_attempted(p, i))
			continue;
		name_kinds(names, unseen);
		snprintf(p->not_attempted[i], sizeof(p->not_attempted[i]),
			 "the monitor %s does not see changes of the kind %s", monitor->name,
			 names);
	}
}

/* Open a monitor for the changes that it claims to see; the others are left out. */
static int open_one(struct prove *p, const struct monitor *monitor, struct invlock_why *why)
{
	struct invlock_mm_options options = {
		.size = sizeof(options),
		.monitor = monitor->name,
	};
	char names[KIND_NAMES];
	u64 missing;
	int err;

	leave_out_unseen(p, monitor);
	options.need = kinds_attempted(p);
	if (!options.need)
		return explain(why, -EOPNOTSUPP, "the monitor %s sees none of the changes that "
			       "prove makes", monitor->name);
	err = invlock_mm_open(&options, &p->mm, why);
	if (err)
		return err;
	missing = INVLOCK_KINDS_DEFAULT & ~(monitor->seen | monitor->refused);
	if (monitor->advice && missing) {
		name_kinds(names, missing);
		prove_note(p, "the monitor %s does not see these kinds of change: %s; %s",
			   monitor->name, names, monitor->advice);
	}
	return 0;
}

static int open_named(struct prove *p, const char *name, struct invlock_why *why)
{
	for (unsigned int i = 0; monitors[i]; i++) {
		if (strcmp(monitors[i]->name, name))
			continue;
		if (monitors[i]->sees_what_it_is_told)
			return explain(why, -EINVAL, "%s cannot be proved: it sees what a program "
				       "reports, and prove is another program; name kmod, bpf, "
				       "daemon or uffd", name);
		return open_one(p, monitors[i], why);
	}
	return explain(why, -EINVAL, "there is no monitor '%s'; prove can use kmod, bpf, daemon or "
		       "uffd",
		       name);
}

/*
 * Open the monitor that a cache would choose. Where there is none, open one that a cache would
 * choose if it needed fewer kinds. `invlock doctor` recommends the same.
 */
static int open_first(struct prove *p, struct invlock_why *why)
{
	const char *only = monitor_in_environment();
	struct invlock_why fewer;
	int err = invlock_mm_open(NULL, &p->mm, why);

	if (!err || err == -EINVAL)
		return err;
	for (unsigned int i = 0; monitors[i]; i++) {
		if (!monitors[i]->ready || (only && strcmp(only, monitors[i]->name)))
			continue;
		if (open_one(p, monitors[i], &fewer))
			continue;
		prove_note(p, "a cache that needs every kind of change does not open here: %s",
			   why->text);
		return 0;
	}
	explain_more(why, "; `invlock doctor` says what can be done");
	return err;
}

struct invlock_mm *monitor_of(const struct prove *p, enum column column)
{
	return column == COLUMN_NAIVE ? p->deaf : p->mm;
}

int monitor_choose(struct prove *p, struct invlock_why *why)
{
	/* nobody reports a change to this monitor */
	int err = mm_create(&monitor_manual, 0, &p->deaf, why);

	if (err)
		return err;
	changes_probe(p);
	err = p->options.monitor ? open_named(p, p->options.monitor, why) : open_first(p, why);
	if (err)
		return err;
	p->need = kinds_attempted(p);
	p->info.size = sizeof(p->info);
	return invlock_mm_info(p->mm, &p->info);
}
