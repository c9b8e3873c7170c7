// SPDX-License-Identifier: MIT
/*
 * The library that these tests link has only the kmod monitor: lib/monitor/without_bpf.c stands for
 * two others. The command has all monitors; test_tool.c runs it.
 */
#include <errno.h>

#include "lib/monitor/monitor.h"

static int not_here(struct invlock_mm *mm, struct invlock_why *why)
{
	(void)mm;
	return explain(why, -EOPNOTSUPP, "this monitor is not built for the guest");
}

const struct monitor monitor_uffd = { .name = "uffd", .seen = ~0ULL, .open = not_here };
