// SPDX-License-Identifier: MIT
/* The guest has no libbpf and its kernel no userfaultfd that will do: kmod is what it tests. */
#include <errno.h>

#include "lib/monitor.h"

static int not_here(struct invlock_mm *mm, struct invlock_why *why)
{
	(void)mm;
	return explain(why, -EOPNOTSUPP, "this monitor is not built for the guest");
}

const struct monitor monitor_bpf = { .name = "bpf", .seen = ~0ULL, .open = not_here };
const struct monitor monitor_uffd = { .name = "uffd", .seen = ~0ULL, .open = not_here };
