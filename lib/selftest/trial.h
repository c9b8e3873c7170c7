/* SPDX-License-Identifier: MIT */
/*
 * A trial: one change, made once. What the run functions of changes are written with.
 *
 *	memory = trial_map(t, ...);
 *	if (memory && trial_begin(t, memory, t->len))
 *		trial_end(t, make the change);
 *	unmap what is left of it
 *
 * Memory that a change unmapped must not be unmapped again: another thread may have mapped
 * something there.
 */
#ifndef INVLOCK_LIB_SELFTEST_TRIAL_H
#define INVLOCK_LIB_SELFTEST_TRIAL_H

#include <invlock/section.h>

#include "map_change.h"
#include "core/port.h"

struct trial {
	const struct map_change *change;
	struct invlock_mm *mm;
	struct change_result *ret;	/* UNKNOWN until it is decided */
	size_t page;
	size_t len;			/* of the memory a change is made to: 16 pages */
	struct invlock_read target;	/* a translation of memory that is about to change */
	struct invlock_read control;	/* a translation of a page that nothing changes */
	void *control_page;
	bool disturbed;			/* decided nothing: worth another try */
	bool control_hit;
};

/* memory of t->len bytes, every page present; NULL = none, and the result says so */
u8 *trial_map(struct trial *t, int flags, int fd);

/*
 * Translate. Return: true = valid at this moment, make the change and call trial_end();
 * false = do not, the result is set.
 */
bool trial_begin(struct trial *t, const void *addr, size_t len);

/* @made: 0 = the change was made; -1 = it was not, and errno says why */
void trial_end(struct trial *t, int made);

/* Instead of trial_end(), or before trial_begin(): the change cannot be made, and why. */
__attribute__((format(printf, 2, 3)))
void trial_unknown(struct trial *t, const char *format, ...);

/* run functions for changes with a make(): of private memory, of shared memory ... */
void trial_private(struct trial *t);
void trial_shared(struct trial *t);
/* ... and of private memory that make() unmaps */
void trial_unmapped(struct trial *t);

/* Is the page at @addr mapped, and in memory? */
bool page_is_present(const void *addr);

#endif /* INVLOCK_LIB_SELFTEST_TRIAL_H */
