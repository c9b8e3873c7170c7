/* SPDX-License-Identifier: MIT */
/*
 * The read section: make a translation of live memory, and know whether it is still valid.
 *
 *	struct invlock_read rd;
 *
 *	invlock_read_init(&rd, mm, addr, len, NULL, 0);
 *	while (invlock_read_attempt(&rd)) {
 *		translate();			may sleep
 *		if (invlock_read_commit(&rd))
 *			break;			valid until invlock_read_valid() says no
 *		undo();
 *	}
 *	err = invlock_read_error(&rd);
 *	...
 *	invlock_read_end(&rd);			the translation is discarded
 *
 * The head of the loop waits and samples, the commit checks: a sample cannot be
 * taken anywhere else. Most programs want <invlock/cache.h>, which does this.
 */
#ifndef INVLOCK_SECTION_H
#define INVLOCK_SECTION_H

#include <stdbool.h>
#include <invlock/mm.h>

#ifdef __cplusplus
extern "C" {
#endif

/* the struct's size is part of the ABI, its content is private */
struct invlock_read {
	uint64_t opaque[24];
};

/**
 * struct invlock_read_budget - when to give up
 * @rounds: translations that may be undone; 0 = 64
 * @time_ns: wall time from the first collision or wait on; 0 = one second
 */
struct invlock_read_budget {
	unsigned int rounds;
	uint64_t time_ns;
};

#define INVLOCK_READ_INTERRUPTIBLE	1u	/* let a signal end a wait, with -EINTR */
/*
 * The range is neither looked at nor watched, so a change of it may go unseen. Do not make a
 * translation so. It is for knowledge that only costs time when it is out of date, such as that
 * this range is refused.
 */
#define INVLOCK_READ_UNWATCHED		2u

/**
 * invlock_read_init() - prepare the loop
 * @rd: on the caller's stack
 * @mm: the address space
 * @addr: first byte; need not be aligned
 * @len: bytes, not 0
 * @budget: NULL for the defaults
 * @flags: INVLOCK_READ_*
 *
 * Whatever is wrong is reported by invlock_read_error(), and the loop does not run.
 * Context: any. Since: 0.1
 */
void invlock_read_init(struct invlock_read *rd, struct invlock_mm *mm, const void *addr,
		       size_t len, const struct invlock_read_budget *budget, unsigned int flags)
	INVLOCK_ONLY_ADDRESS(3);

/**
 * invlock_read_attempt() - wait until the range is quiet, sample, look, and have it watched
 * @rd: the section
 *
 * Looks at what is mapped there, and refuses memory that can change without the monitor seeing it.
 * docs/monitors.md lists what each monitor refuses; invlock_mm_explain() tells it of a range.
 * Context: may sleep. Locks: none that a thread may hold while it unmaps.
 * Return: true = translate; false = leave, invlock_read_error() says why. Since: 0.1
 */
bool invlock_read_attempt(struct invlock_read *rd);

/**
 * invlock_read_commit() - did nothing collide?
 * @rd: the section; the last attempt returned true
 *
 * Context: may sleep, within the budget, while the monitor cannot know yet whether anything
 * collided. Ordering: acquire.
 * Return: true = the translation is valid; false = undo it and go round. Since: 0.1
 */
bool invlock_read_commit(struct invlock_read *rd);

/* a moment; the struct's size is part of the ABI, its content is private */
struct invlock_moment {
	uint64_t opaque[4];
};

/**
 * invlock_moment_take() - remember this moment, for translations whose range is not known yet
 * @ret_moment: written in any case
 * @mm: the address space
 *
 * For code that learns of a translation only when somebody else has made it. Takes as long as a
 * short system call. Context: any, never waits.
 * Return: false = memory is being changed now, or the monitor watches only what it is told to
 * (uffd): invlock_read_commit_since() then says no. Since: 0.1
 */
bool invlock_moment_take(struct invlock_moment *ret_moment, struct invlock_mm *mm);

/**
 * invlock_read_commit_since() - commit a translation that was made after a moment
 * @rd: after invlock_read_init(), instead of the loop
 * @moment: of the same mm. The translation was begun later, which the caller has to know
 *
 * Looks at what is mapped, as invlock_read_attempt() does. Many changes after the moment, wherever
 * they are, leave no proof that none was in the range, so take moments often.
 * If the range has changed, invlock_read_error() is -EBUSY afterwards.
 * Context: may sleep. Ordering: acquire.
 * Return: true = valid, as after a commit; false = the range has changed since, or may have, or the
 * memory is refused, as invlock_read_error() says. End @rd in either case. Since: 0.1
 */
bool invlock_read_commit_since(struct invlock_read *rd, const struct invlock_moment *moment);

/**
 * invlock_read_valid() - is a committed translation still valid?
 * @rd: the section, after a commit that returned true; may be asked from several
 *	threads at once
 *
 * Context: may sleep while the monitor cannot know yet: with uffd a change of the watched memory
 * is in flight, with bpf the kernel skips its programs for a moment. It waits no longer than the
 * time of the section's budget, then says no.
 * Ordering: acquire: an invalidation that happened before this call is seen. Loads before this
 * call are not ordered with it: a caller that reads data first and asks afterwards, as a sequence
 * count's reader does, loads the data with acquire.
 * Return: true = it was valid at the time of the call; false = discard it.
 * Also false in a forked child. Since: 0.1
 */
bool invlock_read_valid(struct invlock_read *rd);

/**
 * invlock_read_end() - say that the translation is no longer used
 * @rd: the section, however its loop ended
 *
 * The monitor need not watch the range any longer. @rd may be initialised again.
 * Context: may sleep. Since: 0.1
 */
void invlock_read_end(struct invlock_read *rd);

/**
 * invlock_read_error() - ask how the loop ended
 * @rd: the section
 *
 * Return: 0 = committed; -EINVAL for NULL (the first page of memory, too), an empty range or one
 * that wraps, or a commit without an attempt; -EMEDIUMTYPE = refused: the monitor might not see a
 * change of this memory; -EFAULT = nothing is mapped in a part of it, from a monitor that looks;
 * -EBUSY = the budget was spent, or the range may have changed since the moment of
 * invlock_read_commit_since(); -EINTR = a signal came; -EOWNERDEAD = the mm is gone (a forked
 * child); -ENOTRECOVERABLE = the monitor can no longer tell what changes; other errors of the
 * monitor. Since: 0.1
 */
int invlock_read_error(const struct invlock_read *rd);

#ifdef __cplusplus
}
#endif

#endif /* INVLOCK_SECTION_H */
