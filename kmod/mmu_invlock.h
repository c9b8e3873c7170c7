/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mmu_invlock: what a driver that mirrors a process's page table needs beside
 * struct mmu_notifier, so that it never publishes a stale translation.
 *
 *	struct my_mirror {
 *		struct mmu_invlock inv;
 *		spinlock_t lock;
 *		table;				guarded by lock
 *	};
 *
 * Invalidation, called by the kernel before and after the page table changes:
 *
 *	spin_lock(lock)
 *	interesting = zap the range from the table
 *	mmu_invlock_inv_start(inv, range, interesting)
 *	spin_unlock(lock)
 *		... the page table changes ...
 *	spin_lock(lock)
 *	mmu_invlock_inv_end(inv, range)
 *	spin_unlock(lock)
 *
 * MMU_INVLOCK_NOTIFIER_OPS does this for a driver that needs nothing special.
 *
 * Fault, in a task that may sleep:
 *
 *	mmu_invlock_fault_init(&f, inv, start, end, NULL);
 *	f.range.hmm_pfns = pfns;
 *	f.range.default_flags = HMM_PFN_REQ_FAULT;
 *	while (mmu_invlock_attempt(&f)) {		waits, locks the mmap lock, enters
 *		err = hmm_range_fault(&f.range);	may sleep
 *		spin_lock(lock);
 *		if (mmu_invlock_commit(&f, err))	checks, unlocks the mmap lock
 *			put pfns into the table;
 *		spin_unlock(lock);
 *	}
 *	return mmu_invlock_fault_end(&f);
 *
 * Lock order: mmap lock, folio and rmap locks, then the driver's lock. Under the
 * driver's lock nothing is allocated that may reclaim. docs/driver.md has the rest.
 */
#ifndef MMU_INVLOCK_H
#define MMU_INVLOCK_H

#include <linux/hmm.h>
#include <linux/list.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/spinlock.h>

#include "core/section.h"

struct mmu_invlock;

/**
 * struct mmu_invlock_ops - for MMU_INVLOCK_NOTIFIER_OPS
 * @invalidate: forget every translation of the range. Context: under the driver's lock;
 *	allocates nothing, never sleeps, cannot fail. Return: was there one?
 * @release: forget all of them; the mm is going away. Context: the same
 */
struct mmu_invlock_ops {
	bool (*invalidate)(struct mmu_invlock *inv, const struct mmu_notifier_range *range);
	void (*release)(struct mmu_invlock *inv);
};

/**
 * struct mmu_invlock - one driver's view of one mm
 * @notifier: as registered; its mm is the mm
 * @il: the invalidation lock: what runs, by stripes, and what was interesting
 * @lock: the driver's, named in mmu_invlock_init()
 * @ops: the same; NULL for a driver with callbacks of its own
 * @faults: in flight: between their attempt and their commit
 * @running: invalidations running now, anywhere
 * @closed: why no fault succeeds any more: -EOWNERDEAD, -ENOTRECOVERABLE; or 0
 * @nr_wide: of those running, the ones that are too wide for stripes
 * @wide_start: they lie between here
 * @wide_end: and here
 *
 * From @faults on, all is guarded by @lock.
 */
struct mmu_invlock {
	struct mmu_notifier notifier;
	struct invlock il;
	spinlock_t *lock;	/* the driver's */
	const struct mmu_invlock_ops *ops;
	struct hlist_head faults;
	unsigned long running;
	int closed;
	unsigned int nr_wide;
	unsigned long wide_start, wide_end;
};

/**
 * struct mmu_invlock_geometry - the size of the lock
 * @nr_words: stripes, a power of two
 * @nr_events: events that the ring remembers, a power of two; 0: no ring
 */
struct mmu_invlock_geometry {
	u32 nr_words;
	u32 nr_events;
};

/**
 * mmu_invlock_init() - prepare a lock, before its notifier is registered
 * @inv: in zeroed memory
 * @lock: the driver's lock. A spinlock, since an invalidation may not sleep where it is
 *	not blockable, and may not fail where it has an end.
 * @ops: NULL for a driver that calls mmu_invlock_inv_start() and _inv_end() itself
 * @geometry: NULL for the default, which has no ring
 *
 * Context: may sleep; fit for ->alloc_notifier. Never twice on a live lock: to register
 * again, destroy and init again. Return: 0, -ENOMEM, -EINVAL for a bad geometry. Since: 0.1
 */
int mmu_invlock_init(struct mmu_invlock *inv, spinlock_t *lock, const struct mmu_invlock_ops *ops,
		     const struct mmu_invlock_geometry *geometry);

/**
 * mmu_invlock_destroy() - free what mmu_invlock_init() made
 * @inv: no longer registered: in ->free_notifier, or after mmu_notifier_unregister()
 *
 * Context: any but an interrupt. An invalidation may have started and will never end:
 * that is no defect, nobody can be waiting for it. Since: 0.1
 */
void mmu_invlock_destroy(struct mmu_invlock *inv);

/**
 * mmu_invlock_get() - the lock of an mm, made if there is none yet
 * @ops: the driver's; its alloc_notifier calls mmu_invlock_init()
 * @mm: held by the caller
 *
 * Context: may sleep, takes the mmap write lock. Return: a lock with one reference more, or
 * an ERR_PTR: -ENOMEM, -EINTR, what alloc_notifier returned. Since: 0.1
 */
struct mmu_invlock *mmu_invlock_get(const struct mmu_notifier_ops *ops, struct mm_struct *mm);

/**
 * mmu_invlock_put() - drop a reference
 * @inv: from mmu_invlock_get()
 *
 * After the last one ->free_notifier runs, later. A fault in flight needs a reference. A
 * module calls mmu_notifier_synchronize() before it goes. Context: any. Since: 0.1
 */
static inline void mmu_invlock_put(struct mmu_invlock *inv)
{
	mmu_notifier_put(&inv->notifier);
}

/**
 * mmu_invlock_inv_start() - the page table of a range is about to change
 * @inv: the lock
 * @range: as the notifier got it
 * @interesting: did the driver hold a translation of any of it?
 *
 * For every invalidation, interesting or not: each counts by itself, so one cannot hide
 * another, and starts may nest in one thread. Every fault in flight over the range is undone,
 * whatever the driver says, and none over it begins before the end. What is interesting is
 * also an event of @inv->il, for readers that take no lock: the feed's, /dev/invlock.
 *
 * Context: under the driver's lock; never waits, allocates or fails. Since: 0.1
 */
void mmu_invlock_inv_start(struct mmu_invlock *inv, const struct mmu_notifier_range *range,
			   bool interesting);

/**
 * mmu_invlock_inv_end() - the page table of the range has changed
 * @inv: the lock
 * @range: as in the start
 *
 * Context: under the driver's lock; never waits, allocates or fails. An end without a start
 * warns, and no fault succeeds any more. Since: 0.1
 */
void mmu_invlock_inv_end(struct mmu_invlock *inv, const struct mmu_notifier_range *range);

/**
 * mmu_invlock_release() - the mm is going away, or the notifier is
 * @inv: the lock
 *
 * For ->release. Every fault, also one in flight, ends with -EOWNERDEAD.
 * Context: under the driver's lock. Since: 0.1
 */
void mmu_invlock_release(struct mmu_invlock *inv);

/**
 * mmu_invlock_kind() - what sort of change is this?
 * @range: as the notifier got it, in the task that makes the change
 *
 * The kernel says less than a program knows: UNMAP, DISCARD for whatever clears page table
 * entries, MIGRATE for the same in reclaim, PROTECT, SOFT_DIRTY, or UNKNOWN.
 * Context: any. Return: enum invlock_kind. Since: 0.1
 */
u32 mmu_invlock_kind(const struct mmu_notifier_range *range);

/* ready-made callbacks: take the lock, ask mmu_invlock_ops, mark */
int mmu_invlock_range_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range);
void mmu_invlock_range_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range);
void mmu_invlock_mm_release(struct mmu_notifier *mn, struct mm_struct *mm);

#define MMU_INVLOCK_NOTIFIER_OPS				\
	.invalidate_range_start = mmu_invlock_range_start,	\
	.invalidate_range_end = mmu_invlock_range_end,		\
	.release = mmu_invlock_mm_release

enum mmu_invlock_fault_state {
	MMU_INVLOCK_NEW,
	MMU_INVLOCK_IN_FLIGHT,	/* on inv->faults; the mmap lock is held */
	MMU_INVLOCK_AGAIN,	/* something stood in the way: section counts it */
	MMU_INVLOCK_DONE,	/* published, or error says why not */
};

/**
 * struct mmu_invlock_fault - a section in flight
 * @range: for hmm_range_fault(); the driver sets hmm_pfns and the flags
 * @collisions: rounds that were undone; known after mmu_invlock_fault_end()
 * @waits: times the head found the range busy; the same
 * @slow: the slow path was taken
 *
 * The rest is private.
 */
struct mmu_invlock_fault {
	struct hmm_range range;
	u32 collisions;
	u32 waits;
	bool slow;

	bool walked_locked;
	bool mm_held;
	bool counting;			/* section is in use */
	enum mmu_invlock_fault_state state;
	int error;
	struct mmu_invlock *inv;
	const struct invlock_budget *budget;
	struct hlist_node in_flight;	/* on inv->faults; guarded by inv->lock */
	/*
	 * Never inserted: what hmm_range_fault() looks at. invalidate_seq is 1 as soon as an
	 * invalidation has overlapped; guarded by inv->lock, and a hint without it.
	 */
	struct mmu_interval_notifier walk;
	struct invlock_section section;	/* the budget's; not written before it is needed */
};

#define MMU_INVLOCK_SLOW_ROUNDS	8

/* for whatever is in the way; in fault.c, as the rest is in most faults all there is */
void __mmu_invlock_fault_init(struct mmu_invlock_fault *f);
bool __mmu_invlock_attempt(struct mmu_invlock_fault *f);
bool __mmu_invlock_commit(struct mmu_invlock_fault *f, int err);
int __mmu_invlock_fault_end(struct mmu_invlock_fault *f);

/**
 * mmu_invlock_fault_init() - prepare the loop
 * @f: on the caller's stack
 * @inv: the lock, with a reference of the caller's
 * @start: first byte, on a page boundary
 * @end: the byte after the last, the same
 * @budget: of optimistic rounds and wall time, read until mmu_invlock_fault_end(); NULL for
 *	core's defaults. When either is spent, the slow path has MMU_INVLOCK_SLOW_ROUNDS more,
 *	and as much time again.
 *
 * Errors are kept for mmu_invlock_fault_end(). Context: may sleep. Since: 0.1
 */
static inline void mmu_invlock_fault_init(struct mmu_invlock_fault *f, struct mmu_invlock *inv,
					  unsigned long start, unsigned long end,
					  const struct invlock_budget *budget)
{
	f->range = (struct hmm_range){ .notifier = &f->walk, .start = start, .end = end };
	f->collisions = 0;
	f->waits = 0;
	f->slow = false;
	f->walked_locked = false;
	f->mm_held = false;
	f->counting = false;
	f->state = MMU_INVLOCK_NEW;
	f->error = 0;
	f->inv = inv;
	f->budget = budget;
	f->walk.mm = inv->notifier.mm;
	/* a task's own mm stays while the task is here */
	if (unlikely(f->walk.mm != current->mm || start >= end || (start | end) & ~PAGE_MASK))
		__mmu_invlock_fault_init(f);
}

/* Locks: inv->lock, and the mmap lock, which the fault now holds */
static inline void mmu_invlock_enter(struct mmu_invlock_fault *f)
{
	WRITE_ONCE(f->walk.invalidate_seq, 0);
	hlist_add_head(&f->in_flight, &f->inv->faults);
	f->state = MMU_INVLOCK_IN_FLIGHT;
}

/* most faults find no lock taken and nothing running: then this is all */
static __always_inline bool mmu_invlock_attempt_at_once(struct mmu_invlock_fault *f)
{
	struct mmu_invlock *inv = f->inv;

	if (unlikely(!mmap_read_trylock(f->walk.mm)))
		return false;
	spin_lock(inv->lock);
	if (unlikely(inv->running || inv->closed)) {
		spin_unlock(inv->lock);
		mmap_read_unlock(f->walk.mm);
		return false;
	}
	mmu_invlock_enter(f);
	spin_unlock(inv->lock);
	return true;
}

/**
 * mmu_invlock_attempt() - the head: wait until the range is quiet, lock the mmap lock, enter
 * @f: the fault
 *
 * Every wait can be killed. In the slow path the mmap lock is held for writing, which shuts
 * out most invalidations, not all of them: see mmu_invlock_commit().
 *
 * Context: may sleep. Locks: the caller holds none that an invalidation, or a holder of the
 * mmap lock, may need. Return: true with the mmap lock held: walk the page table, then
 * mmu_invlock_commit(). False: leave the loop. Since: 0.1
 */
static __always_inline bool mmu_invlock_attempt(struct mmu_invlock_fault *f)
{
	if (f->state == MMU_INVLOCK_DONE)
		return false;
	if (f->state == MMU_INVLOCK_NEW && likely(mmu_invlock_attempt_at_once(f)))
		return true;
	return __mmu_invlock_attempt(f);
}

/**
 * mmu_invlock_commit() - did anything collide with the walk?
 * @f: the fault; the attempt before this returned true
 * @err: how the walk ended: 0, -EBUSY for "go round again", another -errno ends the loop
 *
 * Drops the mmap lock. In the slow path the pages are looked up once more here, under the
 * driver's lock, where no invalidation can start; whatever could not be looked up that way
 * is checked like any other round.
 *
 * Context: under the driver's lock. Return: true: publish before that lock drops. False:
 * publish nothing, go on in the loop. Since: 0.1
 */
static inline bool mmu_invlock_commit(struct mmu_invlock_fault *f, int err)
{
	lockdep_assert_held(f->inv->lock);
	if (unlikely(err || f->slow || f->walk.invalidate_seq ||
		     f->state != MMU_INVLOCK_IN_FLIGHT))
		return __mmu_invlock_commit(f, err);
	/* without poison: nobody looks at it any more */
	__hlist_del(&f->in_flight);
	f->state = MMU_INVLOCK_DONE;
	mmap_read_unlock(f->walk.mm);
	return true;
}

/**
 * mmu_invlock_fault_end() - how the loop ended
 * @f: the fault
 *
 * Context: may sleep: this may be the last user of the mm. Locks: none.
 * Return: 0: published; -EBUSY: both budgets are spent; -EINTR: killed; -EOWNERDEAD: the mm
 * is gone; -EINVAL: an empty, wrapping or unaligned range, or, with a warning, an attempt
 * without its commit; -ENOTRECOVERABLE: an end is missing; or the walk's own error. Since: 0.1
 */
static inline int mmu_invlock_fault_end(struct mmu_invlock_fault *f)
{
	if (unlikely(f->state != MMU_INVLOCK_DONE || f->mm_held || f->counting))
		return __mmu_invlock_fault_end(f);
	return f->error;
}

#endif /* MMU_INVLOCK_H */
