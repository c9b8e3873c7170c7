/* SPDX-License-Identifier: MIT */
/*
 * Every public function, to be called in hostile surroundings, and a check that the library works
 * afterwards.
 */
#ifndef INVLOCK_TESTS_HOSTILE_CALLS_H
#define INVLOCK_TESTS_HOSTILE_CALLS_H

#include <invlock/cache.h>
#include <invlock/uring.h>
#include <stdbool.h>


/* kinds that every monitor sees, and which are asked for here */
#define NEED	(INVLOCK_BIT(UNMAP) | INVLOCK_BIT(FIXED))

struct rig {
	const char *monitor;		/* NULL = the first that works */
	struct invlock_mm *mm;
	struct invlock_cache *cache;
	struct io_uring ring;
	struct invlock_uring *uring;	/* NULL if there is no io_uring */
	char *page;			/* a page that belongs to this rig alone */
	unsigned int nr_reg, nr_dereg;	/* atomics */
	struct invlock_why why;
};

/* Return: 0, or -errno with a sentence in rig->why; then nothing stays open */
int rig_open(struct rig *rig, const char *monitor);

/* Fails the test if a registration is left over. */
void rig_close(struct rig *rig);

/* The same for a child, where no test can be failed: returns an error instead. */
int rig_try_close(struct rig *rig);

/* Skips the test, with the reason, if this machine has no such monitor. */
void rig_open_or_skip(struct rig *rig, const char *monitor);

/*
 * Is a change seen? Registers the page, replaces it, and looks again. Return: 0; -ESTALE = the
 * change was not seen; or the error of a get
 */
int rig_check(struct rig *rig);

struct public_call {
	const char *name;
	bool (*make)(struct rig *rig);	/* false = the call did not do what it should */
};

extern const struct public_call calls[];	/* the last one has no name */

#endif /* INVLOCK_TESTS_HOSTILE_CALLS_H */
