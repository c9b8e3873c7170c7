/* SPDX-License-Identifier: MIT */
/* The mm inside the library: one per process and monitor, shared by reference. */
#ifndef INVLOCK_LIB_MM_H
#define INVLOCK_LIB_MM_H

#include <invlock/mm.h>
#include "core/invlock.h"

struct look;
struct monitor;

struct invlock_mm {
	const struct monitor *monitor;
	struct invlock il;	/* set by monitor->open, then constant */
	size_t feed_bytes;	/* of il.feed, as mapped; constant like il */
	u64 seen, exact;	/* of the monitor, as they are on this kernel; constant */
	void *data;		/* the monitor's own; constant */
	u64 number;		/* no other mm of the process ever has it; constant */
	/*
	 * 1 as long as this is the process that opened it. Lies on a page that fork wipes
	 * (MADV_WIPEONFORK), so that a forked child reads 0 however it was forked.
	 */
	u32 *alive;
	unsigned int users;	/* guarded by mm_lock() */
	u32 told_closed;	/* 1: it was logged that the feed is closed; by compare-exchange */
};

/*
 * No caller may name the first page: it holds NULL, and no rounding must reach it. Every hit asks,
 * so this is a constant: the end of the smallest first page that a machine has.
 */
#define FIRST_ADDRESS	4096ULL

/* may a caller name this range? */
static inline bool user_range_ok(u64 start, u64 end)
{
	return start >= FIRST_ADDRESS && start < end;
}

/* Context: any; a load. Return: false in a forked child */
static inline bool mm_alive(const struct invlock_mm *mm)
{
	return port_load(mm->alive);
}

/*
 * Guards what exists once in a process: which mms are open and by how many, which counters
 * caches have, and whether the reaper runs. Held while a monitor opens and closes, which may take
 * seconds, but never by a get, a put or a section. A fork waits for it, and the child finds it
 * free.
 */
void mm_lock(void);
bool mm_try_lock(void);
void mm_unlock(void);

/* Make an mm that is not shared; for invlock_mm_close(). @flags: INVLOCK_MM_* */
int mm_create(const struct monitor *monitor, unsigned int flags, struct invlock_mm **ret_mm,
	      struct invlock_why *why);

/* one more user; the caller is one already */
void mm_hold(struct invlock_mm *mm);

/* 0, or -EOPNOTSUPP and a sentence that names the kinds in @need that are not in @seen */
int mm_sees(const struct monitor *monitor, u64 seen, u64 need, struct invlock_why *why);

/* 0, or -EOPNOTSUPP and a sentence: a kind in @need is exact elsewhere, but not on this kernel */
int mm_is_exact(const struct invlock_mm *mm, u64 need, struct invlock_why *why);

/* Must the monitor look at a range, or be told of it, before the range is cached? */
bool mm_has_to_watch(const struct invlock_mm *mm);

/*
 * Between the sample and the translation: refuse what can change unseen, and begin to watch the
 * range where the monitor needs to be told. 0; -EFAULT, -EMEDIUMTYPE, and then ret_look says why;
 * -errno
 */
int mm_watch(struct invlock_mm *mm, u64 start, u64 end, struct look *ret_look);
void mm_unwatch(struct invlock_mm *mm, u64 start, u64 end);

/* Give back to the kernel what it watches in a range and nobody needs: monitor.h, @release. */
void mm_release(struct invlock_mm *mm, u64 start, u64 end);

/* Logs, once, that the feed is closed, if it is. Locks: none. Context: any, mostly a load. */
void mm_tell_if_closed(struct invlock_mm *mm);

/* let the monitor find out whether it missed something; see struct monitor */
void mm_note_missed(const struct invlock_mm *mm);

/* zeroed memory that a forked child finds zeroed again; NULL = none */
void *map_wiped_on_fork(size_t bytes);

#endif /* INVLOCK_LIB_MM_H */
