// SPDX-License-Identifier: MIT
#include "selftest.h"

#include <errno.h>

#include "map_change.h"
#include "lib/monitor/monitor.h"

static const struct map_change *const quick[] = {
	map_changes, advise_changes, truncate_changes, NULL
};

static int failed(const struct monitor *monitor, const struct map_change *c,
		  struct invlock_why *why)
{
	return explain(why, -EOPNOTSUPP,
		       "monitor %s failed its self-test: it says that it sees changes of kind %s, "
		       "but %s went unseen; do not use it on this kernel",
		       monitor->name, invlock_kind_name(c->kind), c->name);
}

int selftest(struct invlock_mm *mm, struct invlock_why *why)
{
	const struct monitor *monitor = mm->monitor;
	struct change_result result, undecided = { .reason = "it claims to see no kind of change" };
	unsigned int nr_seen = 0;

	for (unsigned int i = 0; quick[i]; i++) {
		for (const struct map_change *c = quick[i]; c->name; c++) {
			if (!(mm->seen >> c->kind & 1))
				continue;
			map_change_test(c, mm, &result);
			if (result.verdict == CHANGE_MISSED)
				return failed(monitor, c, why);
			if (result.verdict == CHANGE_SEEN)
				nr_seen++;
			else
				undecided = result;
		}
	}
	/* It has to see one: a monitor that refuses all memory would miss nothing, either. */
	if (!nr_seen)
		return explain(why, -EOPNOTSUPP,
			       "monitor %s failed its self-test: of all changes made, it saw none: "
			       "%s",
			       monitor->name, undecided.reason);
	return 0;
}
