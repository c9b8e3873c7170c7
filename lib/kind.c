// SPDX-License-Identifier: MIT
#include <invlock/kind.h>

static const char *const names[INVLOCK_NR_KINDS] = {
	[INVLOCK_KIND_UNKNOWN]		= "unknown",
	[INVLOCK_KIND_UNMAP]		= "unmap",
	[INVLOCK_KIND_FIXED]		= "map-fixed",
	[INVLOCK_KIND_REMAP_FROM]	= "remap-from",
	[INVLOCK_KIND_REMAP_TO]		= "remap-to",
	[INVLOCK_KIND_DISCARD]		= "discard",
	[INVLOCK_KIND_FREE]		= "free",
	[INVLOCK_KIND_REMOVE]		= "remove",
	[INVLOCK_KIND_GUARD]		= "guard",
	[INVLOCK_KIND_BRK]		= "brk",
	[INVLOCK_KIND_SHMDT]		= "shmdt",
	[INVLOCK_KIND_SHM_REMAP]	= "shm-remap",
	[INVLOCK_KIND_REORDER]		= "reorder",
	[INVLOCK_KIND_TRUNCATE]		= "truncate",
	[INVLOCK_KIND_TRUNCATE_PRIVATE]	= "truncate-private",
	[INVLOCK_KIND_URING]		= "uring-madvise",
	[INVLOCK_KIND_PROTECT]		= "protect",
	[INVLOCK_KIND_MOVE]		= "move",
	[INVLOCK_KIND_MIGRATE]		= "migrate",
	[INVLOCK_KIND_SOFT_DIRTY]	= "soft-dirty",
	[INVLOCK_KIND_RELEASE]		= "release",
	[INVLOCK_KIND_MANUAL]		= "manual",
};

const char *invlock_kind_name(unsigned int kind)
{
	return kind < INVLOCK_NR_KINDS ? names[kind] : names[INVLOCK_KIND_UNKNOWN];
}
