/* SPDX-License-Identifier: MIT */
/*
 * How much memory may the monitor use?
 *
 * Maps and programs are charged to the memory cgroup of the process that makes them. Where they do
 * not fit, the kernel does not refuse them but kills the process. So we ask first.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_MEMORY_H
#define INVLOCK_LIB_MONITOR_BPF_MEMORY_H

#include "core/port.h"
#include <invlock/mm.h>

#define MEMORY_TO_LOAD	(18ULL << 20)	/* while a set is being loaded; measured 16 MiB more */
/* The feed and a seat in a set, and, for a moment, the kernel's BTF; measured 5 and 11 MiB. */
#define MEMORY_TO_JOIN	(17ULL << 20)

/**
 * memory_left_in() - how much can be charged before a memory cgroup reaches its limit
 * @mounted_at: where cgroups are mounted: /sys/fs/cgroup
 * @list: the cgroups of the process: /proc/self/cgroup
 *
 * Looks at version 1 and 2, and at every cgroup on the way up. What the page cache holds counts as
 * left. Return: bytes; ~0 = there is no limit, or none that we can see.
 */
u64 memory_left_in(const char *mounted_at, const char *list);

/* 0; or -ENOMEM and a sentence: less than @need bytes are left for @what */
int memory_check(u64 need, const char *what, struct invlock_why *why);

#endif /* INVLOCK_LIB_MONITOR_BPF_MEMORY_H */
