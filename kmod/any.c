// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fault loop for a driver whose lock sleeps. mmu_invlock_any.h is its contract.
 *
 * A fault makes progress in three steps. Each is bounded in rounds, and in time between rounds:
 *	1. It takes optimistic rounds, with the mmap lock held for reading, until its budget of
 *	   rounds or time is spent.
 *	2. It takes rounds with the mmap lock held for writing. munmap, mremap and mprotect have
 *	   to wait meanwhile.
 *	3. It fails with -EBUSY.
 *
 * Why this is correct: an invalidation changes the notifier's sequence, and removes what was
 * published, under the driver's lock and before it changes the page table. A commit compares the
 * sequence under the same lock. It was read while no invalidation of the range was running.
 *
 * Lock order: mmap lock, the driver's lock.
 */
#include <linux/export.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "mmu_invlock_any.h"

void mmu_invlock_any_init(struct mmu_invlock_any_fault *f, struct hmm_range *range,
			  const struct mmu_invlock_budget *budget)
{
	*f = (struct mmu_invlock_any_fault){
		.range = range,
		.notifier = range->notifier,
		.mm = range->notifier->mm,
	};
	mmu_invlock_left_init(&f->left, budget);
	if (range->start >= range->end || (range->start | range->end) & ~PAGE_MASK)
		f->error = -EINVAL;
	/* the current task's own mm stays as long as the task is here, so it needs no reference */
	else if (current->mm != f->mm && !mmget_not_zero(f->mm))
		f->error = -EOWNERDEAD;
	else
		f->mm_held = current->mm != f->mm;
	if (f->error)
		f->state = MMU_INVLOCK_DONE;
}
EXPORT_SYMBOL_GPL(mmu_invlock_any_init);

/* Return: 0. In a module, nothing can end this wait but the end of the invalidations. */
static int mmu_invlock_any_begin(struct mmu_invlock_any_fault *f)
{
	f->seq = mmu_interval_read_begin(f->notifier);
	return 0;
}

/* Return: 0 with the mmap lock held, or the error that ends the loop. */
static int mmu_invlock_any_try(struct mmu_invlock_any_fault *f)
{
	int err;

	do {
		err = mmu_invlock_left_check(&f->left);
		if (err)
			return err;
		mmu_invlock_left_start_clock(&f->left);
		err = mmu_invlock_any_begin(f);
	} while (err == -EAGAIN);
	if (err)
		return err;
	/* hmm_range_fault() reads this without a lock, and then stops early */
	f->range->notifier_seq = f->seq;
	return f->left.slow ? mmap_write_lock_killable(f->mm) : mmap_read_lock_killable(f->mm);
}

static void mmu_invlock_any_unlock_mm(struct mmu_invlock_any_fault *f)
{
	if (f->left.slow)
		mmap_write_unlock(f->mm);
	else
		mmap_read_unlock(f->mm);
}

bool mmu_invlock_any_attempt(struct mmu_invlock_any_fault *f)
{
	/* if the driver left out the commit, mmu_invlock_any_end() drops the mmap lock */
	if (f->state == MMU_INVLOCK_DONE || WARN_ON_ONCE(f->state == MMU_INVLOCK_IN_FLIGHT))
		return false;
	might_alloc(GFP_KERNEL);
	might_lock_read(&f->mm->mmap_lock);
	f->error = mmu_invlock_any_try(f);
	f->state = f->error ? MMU_INVLOCK_DONE : MMU_INVLOCK_IN_FLIGHT;
	return !f->error;
}
EXPORT_SYMBOL_GPL(mmu_invlock_any_attempt);

bool mmu_invlock_any_commit(struct mmu_invlock_any_fault *f, int err)
{
	if (WARN_ON_ONCE(f->state != MMU_INVLOCK_IN_FLIGHT))
		return false;
	mmu_invlock_any_unlock_mm(f);
	if (!err && mmu_interval_read_retry(f->notifier, f->seq))
		err = -EBUSY;
	if (err == -EBUSY) {
		f->collisions++;
		f->left.rounds--;
		f->state = MMU_INVLOCK_AGAIN;
		return false;
	}
	f->error = err;
	f->state = MMU_INVLOCK_DONE;
	return !err;
}
EXPORT_SYMBOL_GPL(mmu_invlock_any_commit);

int mmu_invlock_any_end(struct mmu_invlock_any_fault *f)
{
	if (WARN_ON_ONCE(f->state == MMU_INVLOCK_IN_FLIGHT)) {
		mmu_invlock_any_unlock_mm(f);
		f->state = MMU_INVLOCK_AGAIN;
	}
	/* under the driver's lock the last reference must not go: a release would take that lock */
	if (f->mm_held)
		mmput_async(f->mm);
	f->mm_held = false;
	return mmu_invlock_any_error(f);
}
EXPORT_SYMBOL_GPL(mmu_invlock_any_end);
