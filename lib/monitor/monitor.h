/* SPDX-License-Identifier: MIT */
/*
 * A monitor writes the feed of this process. Each is a file or a folder of this one.
 */
#ifndef INVLOCK_LIB_MONITOR_MONITOR_H
#define INVLOCK_LIB_MONITOR_MONITOR_H

#include "lib/explain.h"
#include "lib/mm.h"
#include "lib/monitor/look.h"

/**
 * struct monitor - one way to learn of changes
 * @name: as users select it
 * @seen: mask of the kinds of change that reach the feed
 * @exact: those of them that are marked before the change is made, for every thread
 * @perhaps: kinds that it sees, exactly, on some machines: open() puts those of this one into
 *	mm->seen and mm->exact
 * @refused: kinds that it need not see, for they can only happen to memory that it refuses
 * @sees_what_it_is_told: the program reports; no kind is demanded, no self-test is run
 * @open: make or attach the feed, fill mm->il, mm->feed_bytes, mm->data, and begin to watch;
 *	late: other threads may run and be in the middle of changing the map. On return every
 *	change that was running before is finished or in the feed. 0, or -errno and a sentence
 *	in why (never NULL). Unwinds completely on error.
 * @close: stop and free all; @mine is false in a forked child, whose copies of memory and file
 *	descriptors are freed without touching what the parent still uses
 * @look: NULL = no memory is refused; or called between the sample and the translation of a range,
 *	in each round: what is mapped there that can change unseen? No memory of it is cached then.
 *	MAPPED_GOOD, or another kind and ret_look; -errno
 * @watch: NULL, or called between the sample and the translation of a range, in each round,
 *	for monitors that must ask the kernel for each range: a mapping that replaced another
 *	before the sample is not watched. Cheap when it is watched already. 0, or -errno: then
 *	the range must not be cached.
 * @note_missed: NULL, or look whether the kernel skipped a run of the monitor, and if so make
 *	every translation stale; and make up for what could not be done in time. Asked when the
 *	cache is idle and by invlock_mm_info(). A few system calls. 0, or -errno
 * @nr_caught: NULL, or how many removals nothing had announced
 * @describe: NULL, or say in a sentence how it works here, for people
 * @unwatch: NULL, or the reverse, when a translation is dropped; watches of overlapping
 *	ranges count
 */
struct monitor {
	const char *name;
	u64 seen;
	u64 exact;
	u64 refused;
	u64 perhaps;
	bool sees_what_it_is_told;
	int (*open)(struct invlock_mm *mm, struct invlock_why *why);
	void (*close)(struct invlock_mm *mm, bool mine);
	int (*look)(const struct invlock_mm *mm, u64 start, u64 end, struct look *ret_look);
	int (*watch)(struct invlock_mm *mm, u64 start, u64 end);
	void (*unwatch)(struct invlock_mm *mm, u64 start, u64 end);
	int (*note_missed)(const struct invlock_mm *mm);
	u64 (*nr_caught)(const struct invlock_mm *mm);
	void (*describe)(const struct invlock_mm *mm, struct invlock_why *ret_how);
};

extern const struct monitor monitor_kmod;
extern const struct monitor monitor_bpf;
extern const struct monitor monitor_uffd;
extern const struct monitor monitor_manual;

/* every monitor, in the order of preference; ends with NULL */
extern const struct monitor *const monitors[];

#endif /* INVLOCK_LIB_MONITOR_MONITOR_H */
