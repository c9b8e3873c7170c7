// SPDX-License-Identifier: MIT
/* What stands for the monitors bpf and daemon in a build with -Dbpf=disabled. */
#include <errno.h>

#include "lib/monitor/monitor.h"

static int not_built(struct invlock_mm *mm, struct invlock_why *why)
{
	(void)mm;
	return explain(why, -EOPNOTSUPP, "this build of the library has no bpf monitor: install "
		       "a build that was configured with -Dbpf=enabled");
}

/* So that open() is called, which says what is the matter. */
#define SEEN	INVLOCK_KINDS_DEFAULT

const struct monitor monitor_bpf = { .name = "bpf", .seen = SEEN, .open = not_built };
const struct monitor monitor_daemon = { .name = "daemon", .seen = SEEN, .open = not_built };
