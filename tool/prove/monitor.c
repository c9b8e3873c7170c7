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

#include <invlock/manual.h>
#include "lib/monitor/monitor.h"
#include "prove.h"

bool storm_is_attempted(const struct prove *p, unsigned int nr)
{
	return !p->not_attempted[nr][0];
}

static u64 kinds_attempted(const struct prove *p)
{
	u64 kinds = 0;

	for (unsigned int i = 0; i < nr_storms; i++)
		if (storm_is_attempted(p, i))
			kinds |= storms[i].kinds;
	return kinds;
}

static void leave_out_unseen(struct prove *p, const struct monitor *monitor)
{
	char names[KIND_NAMES];

	for (unsigned int i = 0; i < nr_storms && !monitor->sees_what_it_is_told; i++) {
		u64 unseen = storms[i].kinds & ~(monitor->seen | monitor->refused);

		if (!unseen || !storm_is_attempted(p, i))
			continue;
		name_kinds(names, unseen);
		snprintf(p->not_attempted[i], sizeof(p->not_attempted[i]),
			 "the monitor %s does not see changes of the kind %s", monitor->name,
			 names);
	}
}

static int open_one(struct prove *p, const struct monitor *monitor, struct invlock_why *why)
{
	struct invlock_mm_options options = {
		.size = sizeof(options),
		.monitor = monitor->name,
	};
	char kept[MAX_STORMS][sizeof(p->not_attempted[0])], names[KIND_NAMES];
	u64 missing;
	int err;

	memcpy(kept, p->not_attempted, sizeof(kept));
	leave_out_unseen(p, monitor);
	p->need = kinds_attempted(p);
	options.need = p->need;
	if (!p->need) {
		err = explain(why, -EOPNOTSUPP, "the monitor %s sees none of the changes that "
			      "prove makes", monitor->name);
	} else {
		err = invlock_mm_open(&options, &p->mm, why);
	}
	if (err) {
		memcpy(p->not_attempted, kept, sizeof(kept));
		return err;
	}
	p->manual = monitor->sees_what_it_is_told;
	missing = INVLOCK_KINDS_DEFAULT & ~(monitor->seen | monitor->refused);
	if (monitor->advice && missing) {
		name_kinds(names, missing);
		prove_note(p, "the monitor %s does not see these kinds of change: %s; %s",
			   monitor->name, names, monitor->advice);
	}
	p->info.size = sizeof(p->info);
	return invlock_mm_info(p->mm, &p->info);
}

static int open_named(struct prove *p, struct invlock_why *why)
{
	char names[200] = "";
	size_t len = 0;

	for (unsigned int i = 0; monitors[i] && len < sizeof(names); i++) {
		if (!strcmp(monitors[i]->name, p->options.monitor))
			return open_one(p, monitors[i], why);
		len += snprintf(names + len, sizeof(names) - len, "%s%s", len ? ", " : "",
				monitors[i]->name);
	}
	return explain(why, -EINVAL, "there is no monitor '%s'; the monitors are %s",
		       p->options.monitor, names);
}

struct invlock_mm *monitor_of(const struct prove *p, enum column column)
{
	return column == COLUMN_NAIVE ? p->deaf : p->mm;
}

int monitor_choose(struct prove *p, struct invlock_why *why)
{
	int err;

	/* a manual monitor of its own: changes may be reported to the one the process shares */
	err = mm_create(&monitor_manual, 0, &p->deaf, why);
	if (err)
		return err;
	storms_probe(p);
	if (p->options.monitor)
		return open_named(p, why);
	/* the preferred one first; the last is manual, which works everywhere */
	for (unsigned int i = 0; monitors[i]; i++) {
		err = open_one(p, monitors[i], why);
		if (!err)
			break;
		prove_note(p, "the monitor %s cannot be used: %s", monitors[i]->name, why->text);
	}
	if (!err && p->manual)
		prove_note(p, "no monitor works here, so the threads that change memory report "
			   "their changes themselves (monitor manual)");
	return err;
}

void report_start(const struct prove *p, void *addr, size_t len)
{
	if (p->manual)
		invlock_manual_start(p->mm, addr, len);
}

void report_end(const struct prove *p, void *addr, size_t len)
{
	if (p->manual)
		invlock_manual_end(p->mm, addr, len);
}
