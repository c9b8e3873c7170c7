/* SPDX-License-Identifier: MIT */
/* The mm inside the library: one a process and monitor, shared by reference. */
#ifndef INVLOCK_LIB_MM_H
#define INVLOCK_LIB_MM_H

#include <invlock/mm.h>
#include "core/invlock.h"

struct monitor;

struct invlock_mm {
	const struct monitor *monitor;
	struct invlock il;	/* set by monitor->open, then constant */
	size_t feed_bytes;	/* of il.feed, as mapped; the same */
	void *data;		/* the monitor's own; the same */
	/*
	 * 1 as long as this is the process that opened it. Lies on a page that fork wipes
	 * (MADV_WIPEONFORK), so that a forked child reads 0 however it was forked.
	 */
	const u32 *alive;
	unsigned int users;	/* guarded by the lock in mm.c */
};

/* Context: any; a load. Return: false in a forked child */
static inline bool mm_alive(const struct invlock_mm *mm)
{
	return port_load(mm->alive);
}

/* begin to watch a range, where the monitor needs to be told; 0 or -errno */
int mm_watch(struct invlock_mm *mm, u64 start, u64 end);
void mm_unwatch(struct invlock_mm *mm, u64 start, u64 end);

#endif /* INVLOCK_LIB_MM_H */
