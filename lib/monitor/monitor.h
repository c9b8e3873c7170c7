/* SPDX-License-Identifier: MIT */
/*
 * A monitor writes the feed of this process. Each monitor is a file or a subfolder of this folder.
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
 * @perhaps: mask of kinds that are seen only on some machines: if this is one, open() adds them to
 *	mm->seen and, where they are exact, to mm->exact
 * @refused: mask of kinds that need not be seen, because they happen only to memory that the
 *	monitor refuses
 * @ready: mask of kinds for programs that can do without the rest of INVLOCK_KINDS_DEFAULT, or 0
 * @advice: NULL, or how such a program opens the monitor: a clause that follows the kinds that are
 *	not seen
 * @sees_what_it_is_told: the program reports the changes; so no kind is demanded and no self-test
 *	is run
 * @open: make or attach the feed, fill mm->il, mm->feed_bytes and mm->data, and begin to watch.
 *	Other threads may already run, and may be in the middle of changing the map. On return,
 *	every change that was running before is finished or in the feed. Returns 0, or -errno and a
 *	sentence in why (never NULL). On error, open() unwinds completely.
 * @close: stop and free all; @mine is false in a forked child, whose copies of memory and file
 *	descriptors are freed without touching what the parent still uses
 * @look: NULL = no memory is refused. Called between the sample and the translation of a range, in
 *	each round: is memory mapped there that can change unseen? Such memory is not cached.
 *	Returns MAPPED_GOOD; another kind, with ret_look filled; or -errno
 * @watch: NULL = nothing to do. Called between the sample and the translation of a range, in each
 *	round, for monitors that must ask the kernel to watch each range: a mapping that replaced
 *	another one before the sample is not watched yet. The call is cheap if the range is watched
 *	already. Returns 0; or -errno: then the range must not be cached.
 * @note_missed: NULL = nothing to do. Finds out whether the kernel skipped a run of the monitor,
 *	and if so makes every translation stale. Also makes up for what could not be done in time.
 *	Called when the cache is idle and by invlock_mm_info(). Takes a few system calls. Returns 0
 *	or -errno
 * @nr_caught: NULL = unknown. Returns how many removals were caught that nothing had announced
 * @describe: NULL = nothing to say. Writes a sentence for people: how does the monitor work on this
 *	machine?
 * @unwatch: NULL = nothing to do: every range is watched from open() on. Undoes one @watch when a
 *	translation is dropped; watches of overlapping ranges are counted
 * @release: NULL = nothing to do. @unwatch may leave the kernel watching what nobody needs any
 *	more, since that is faster. This gives back what is left of it in a range
 */
struct monitor {
	const char *name;
	u64 seen;
	u64 exact;
	u64 refused;
	u64 perhaps;
	u64 ready;
	const char *advice;
	bool sees_what_it_is_told;
	int (*open)(struct invlock_mm *mm, struct invlock_why *why);
	void (*close)(struct invlock_mm *mm, bool mine);
	int (*look)(const struct invlock_mm *mm, u64 start, u64 end, struct look *ret_look);
	int (*watch)(struct invlock_mm *mm, u64 start, u64 end);
	void (*unwatch)(struct invlock_mm *mm, u64 start, u64 end);
	void (*release)(struct invlock_mm *mm, u64 start, u64 end);
	int (*note_missed)(const struct invlock_mm *mm);
	u64 (*nr_caught)(const struct invlock_mm *mm);
	void (*describe)(const struct invlock_mm *mm, struct invlock_why *ret_how);
};

extern const struct monitor monitor_kmod;
extern const struct monitor monitor_bpf;
extern const struct monitor monitor_daemon;
extern const struct monitor monitor_uffd;
extern const struct monitor monitor_manual;

/* Every monitor, in the order of preference. The array ends with NULL. */
extern const struct monitor *const monitors[];

/* Return: the monitor's name in INVLOCK_MONITOR, which need not exist; NULL = it is not set. */
const char *monitor_in_environment(void);

/*
 * May a cache that needs @need choose the monitor, which on this machine sees @seen, and of that
 * @exact exactly? It never chooses one that sees what it is told, and none that is less exact here
 * than elsewhere: the program has to name these.
 */
bool monitor_can_be_chosen(const struct monitor *monitor, u64 seen, u64 exact, u64 need);

/* Return: how a program can do without the kinds in @missing; NULL = this monitor has no advice. */
const char *monitor_advice(const struct monitor *monitor, u64 missing);

#endif /* INVLOCK_LIB_MONITOR_MONITOR_H */
