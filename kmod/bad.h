/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Planted failures: each breaks one line, to show that a test protects it. One is chosen
 * when the module is loaded, with bad=NAME, and the kernel's log says so.
 */
#ifndef INVLOCK_BAD_H
#define INVLOCK_BAD_H

#include <linux/types.h>

enum bad {
	BAD_NOTHING,
	BAD_UNCHECKED,	/* no fault in flight is ever undone */
	BAD_LATE,	/* a fault looks only after its walk at what runs */
	BAD_HOIST,	/* a round is not begun afresh */
	BAD_ENTRY,	/* what began while a fault waited for the mmap lock is not asked for */
	BAD_SLOW,	/* the slow path does not check */
	BAD_INTEREST,	/* what the driver holds nothing of undoes no fault in flight */
	BAD_END,	/* ends are lost */
	BAD_START,	/* starts are lost, ends are not */
	BAD_FREE,	/* the lock is freed while a fault is in flight */
	BAD_RACE,	/* a counter without its lock, often enough to be found */
	BAD_ALLOC,	/* start allocates memory that reclaim may have to make */
	BAD_ERRNO,	/* an answer that is no errno which the manual names */
	BAD_WAKE,	/* poll looks for events without the lock under which they are made */
	BAD_LEAK,	/* a feed that cannot be opened is not freed */
	NR_BAD
};

extern enum bad bad_chosen;	/* constant after load */

static inline bool bad_is(enum bad bad)
{
	return unlikely(bad_chosen == bad);
}

#endif /* INVLOCK_BAD_H */
