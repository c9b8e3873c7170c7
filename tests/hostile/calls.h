/* SPDX-License-Identifier: MIT */
/* Every public call, each to be made in hostile surroundings; and whether it still works. */
#ifndef INVLOCK_TESTS_HOSTILE_CALLS_H
#define INVLOCK_TESTS_HOSTILE_CALLS_H

#include <invlock/cache.h>
#include <invlock/uring.h>
#include <stdbool.h>

#define PAGE	4096UL

/* what any machine's monitor sees, and is asked for here */
#define NEED	(INVLOCK_BIT(UNMAP) | INVLOCK_BIT(FIXED))

struct rig {
	const char *monitor;		/* NULL = the first that works */
	struct invlock_mm *mm;
	struct invlock_cache *cache;
	struct io_uring ring;
	struct invlock_uring *uring;	/* NULL where there is no io_uring */
	char *page;			/* a page of its own */
	unsigned int nr_reg, nr_dereg;	/* atomics */
	struct invlock_why why;
};

/* 0, or -errno and a sentence in rig->why; unwinds on error */
int rig_open(struct rig *rig, const char *monitor);

/* fails the test when a registration is left over */
void rig_close(struct rig *rig);

/* the same, leaving by an error code where no test may be failed: in a child */
int rig_try_close(struct rig *rig);

/* skips the test, with the reason, where this machine has no such monitor */
void rig_open_or_skip(struct rig *rig, const char *monitor);

/*
 * Is a change seen? Registers the page, puts another in its place, looks again.
 * 0; -ESTALE = it was not; or what a get returned
 */
int rig_check(struct rig *rig);

struct public_call {
	const char *name;
	bool (*make)(struct rig *rig);	/* false = it did not do what it should */
};

extern const struct public_call calls[];	/* ends with no name */

#endif /* INVLOCK_TESTS_HOSTILE_CALLS_H */
