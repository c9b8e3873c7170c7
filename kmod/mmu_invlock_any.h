/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fault loop for a driver whose lock sleeps: a mutex or an rwsem, held while it maps pages for
 * DMA or programs a device. mmu_invlock.h is for a driver whose lock is a spinlock. The loop, the
 * budget and the errors are the same.
 *
 * The kernel makes some invalidations where nothing may sleep. A driver whose lock sleeps has to
 * refuse those, and only an mmu_interval_notifier may do that:
 *
 *	static bool my_invalidate(notifier, range, seq)
 *	{
 *		if (mmu_notifier_range_blockable(range))
 *			mutex_lock(lock);
 *		else if (!mutex_trylock(lock))
 *			return false;
 *		mmu_interval_set_seq(notifier, seq);
 *		zap the range from the table
 *		mutex_unlock(lock);
 *		return true;
 *	}
 *
 * Where an invalidation has two passes (since Linux 7.1), mmu_interval_set_seq() and the zap belong
 * into the first one.
 *
 * Fault:
 *
 *	struct hmm_range range = { .notifier = notifier, .start = start, .end = end, ... };
 *
 *	mmu_invlock_any_init(&f, &range, NULL);
 *	while (mmu_invlock_any_attempt(&f)) {		waits, takes the mmap lock
 *		err = hmm_range_fault(&range);		may sleep
 *		mutex_lock(lock);
 *		if (mmu_invlock_any_commit(&f, err))	checks, drops the mmap lock
 *			put range.hmm_pfns into the table; may sleep
 *		mutex_unlock(lock);
 *	}
 *	return mmu_invlock_any_end(&f);
 *
 * Any lock will do that my_invalidate() takes, also a spinlock. The notifier may be that of the
 * whole mm, of a region, or of this one fault. After a commit that returned true, the driver may
 * leave the loop by break, with the lock held: mmu_invlock_any_end() can be called under it.
 *
 * Lock order: mmap lock, folio and rmap locks, then the driver's lock.
 * docs/driver.md explains the rest.
 */
#ifndef MMU_INVLOCK_ANY_H
#define MMU_INVLOCK_ANY_H

#include "mmu_invlock.h"

/**
 * struct mmu_invlock_any_fault - one fault: a read section around a walk of the page table
 * @collisions: how many rounds were undone
 * @left: what is left of the budget; left.slow says whether the slow path was taken
 */
struct mmu_invlock_any_fault {
	u32 collisions;
	struct mmu_invlock_left left;

	/* private: */
	bool mm_held;			/* mmget_not_zero() was called; mmput() is due */
	enum mmu_invlock_fault_state state;
	int error;			/* what mmu_invlock_any_end() will return */
	struct hmm_range *range;	/* the driver's */
	struct mmu_interval_notifier *notifier;
	struct mm_struct *mm;
	unsigned long seq;		/* of the notifier, at the attempt */
};

/**
 * mmu_invlock_any_init() - prepare the loop
 * @f: the fault, on the caller's stack
 * @range: the argument of hmm_range_fault(). Its notifier is registered, and covers start to end.
 *	The driver may move start, end and hmm_pfns during a round
 * @budget: as for mmu_invlock_fault_init(). When it is spent, MMU_INVLOCK_SLOW_ROUNDS rounds
 *	follow that hold the mmap lock for writing, in the same amount of time
 *
 * mmu_invlock_any_end() reports the errors.
 * Context: may sleep.
 * Since: 0.1
 */
void mmu_invlock_any_init(struct mmu_invlock_any_fault *f, struct hmm_range *range,
			  const struct mmu_invlock_budget *budget);

/**
 * mmu_invlock_any_attempt() - begin a round: wait until the range is quiet, take the mmap lock
 * @f: the fault
 *
 * A fatal signal ends the wait for the mmap lock, and the loop between two rounds. It does not end
 * the wait for an invalidation, which has no limit either: that is mmu_interval_read_begin(), which
 * waits until no notifier of the mm has an invalidation. A module cannot do better, because the
 * kernel tells nobody else when the invalidation of an interval ends.
 *
 * Context: may sleep. Locks: as for mmu_invlock_attempt().
 * Return: true with the mmap lock held: walk the page table, then call mmu_invlock_any_commit().
 *	False: leave the loop.
 * Since: 0.1
 */
bool mmu_invlock_any_attempt(struct mmu_invlock_any_fault *f);

/**
 * mmu_invlock_any_commit() - did an invalidation collide with the walk?
 * @f: the fault, for which mmu_invlock_any_attempt() has just returned true
 * @err: the result of the walk: 0; -EBUSY asks for another round; any other error ends the loop
 *
 * This call drops the mmap lock. What the walk wrote into hmm_pfns stays there. A driver whose
 * device reads that array must remove it when the loop ends with an error.
 * Context: the driver's lock is held.
 * Return: true: publish before you drop that lock. False: publish nothing and continue the loop.
 * Since: 0.1
 */
bool mmu_invlock_any_commit(struct mmu_invlock_any_fault *f, int err);

/**
 * mmu_invlock_any_error() - tell how the loop ended
 * @f: the fault
 *
 * Context: any.
 * Return: as mmu_invlock_fault_end(), but never -ENOTRECOVERABLE.
 * Since: 0.1
 */
static inline int mmu_invlock_any_error(const struct mmu_invlock_any_fault *f)
{
	return f->state == MMU_INVLOCK_DONE ? f->error : -EINVAL;
}

/**
 * mmu_invlock_any_end() - release the fault and tell how the loop ended
 * @f: the fault
 *
 * Context: any; never sleeps. Locks: the driver's lock may be held.
 * Return: as mmu_invlock_any_error().
 * Since: 0.1
 */
int mmu_invlock_any_end(struct mmu_invlock_any_fault *f);

#endif /* MMU_INVLOCK_ANY_H */
