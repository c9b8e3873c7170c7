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
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "mmu_invlock_any.h"

void mmu_invlock_any_init(struct mmu_invlock_any_fault *f, struct hmm_range *range,
			  const struct invlock_budget *budget)
{
	*f = (struct mmu_invlock_any_fault){
		.range = range,
		.notifier = range->notifier,
		.mm = range->notifier->mm,
		.left = {
			.rounds = budget && budget->rounds ? budget->rounds :
				  INVLOCK_DEFAULT_ROUNDS,
			.time_ns = budget && budget->time_ns ? budget->time_ns :
				   INVLOCK_DEFAULT_TIME_NS,
		},
	};
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

static bool mmu_invlock_any_is_spent(struct mmu_invlock_any_fault *f)
{
	u64 now = ktime_get_ns();

	if (!f->deadline)
		f->deadline = now + min_t(u64, f->left.time_ns, S64_MAX);
	return !f->left.rounds || now >= f->deadline;
}

/* Return: 0 if another round may begin, or the error that ends the loop. */
static int mmu_invlock_any_check(struct mmu_invlock_any_fault *f)
{
	if (fatal_signal_pending(current))
		return -EINTR;
	if (!mmu_invlock_any_is_spent(f))
		return 0;
	if (f->slow)
		return -EBUSY;
	f->slow = true;
	f->left.rounds = MMU_INVLOCK_SLOW_ROUNDS;
	f->deadline = 0;
	return 0;
}

static void mmu_invlock_any_unlock_mm(struct mmu_invlock_any_fault *f)
{
	if (f->slow)
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
	f->error = mmu_invlock_any_check(f);
	if (!f->error) {
		f->seq = mmu_interval_read_begin(f->notifier);
		/* hmm_range_fault() reads this without a lock, and then stops early */
		f->range->notifier_seq = f->seq;
		f->error = f->slow ? mmap_write_lock_killable(f->mm) :
				     mmap_read_lock_killable(f->mm);
	}
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
