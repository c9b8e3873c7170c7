// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fault loop: see mmu_invlock.h.
 *
 * A ladder, each step bounded:
 *	1. rounds beside everybody else, until the budget of rounds or time is spent;
 *	2. rounds with the mmap lock held for writing: no munmap, mremap or mprotect;
 *	3. at the end of each of those, the pages are looked up again under the driver's lock,
 *	   where even those invalidations wait that need no mmap lock (truncation, reclaim);
 *	4. -EBUSY.
 * No step publishes unchecked.
 *
 * Lock order: mmap lock, inv->lock. inv->lock is only ever held for a moment.
 */
#include <linux/module.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "bad.h"
#include "mmu_invlock.h"

void mmu_invlock_fault_init(struct mmu_invlock_fault *f, struct mmu_invlock *inv,
			    unsigned long start, unsigned long end,
			    const struct invlock_budget *budget)
{
	*f = (struct mmu_invlock_fault){ .inv = inv, .mm = inv->notifier.mm };
	INIT_LIST_HEAD(&f->in_flight);
	f->walk.mm = f->mm;
	f->range.notifier = &f->walk;
	f->range.start = start;
	f->range.end = end;
	/* the section refuses an empty or wrapping range itself */
	invlock_section_init(&f->section, &inv->il, start, end, budget,
			     INVLOCK_SECTION_INTERRUPTIBLE);
	if ((start | end) & ~PAGE_MASK) {
		f->error = -EINVAL;
		f->mm = NULL;
	} else if (!mmget_not_zero(f->mm)) {
		f->error = -EOWNERDEAD;
		f->mm = NULL;
	}
}
EXPORT_SYMBOL_GPL(mmu_invlock_fault_init);

static bool lock_mmap(struct mmu_invlock_fault *f)
{
	f->error = f->slow ? mmap_write_lock_killable(f->mm) : mmap_read_lock_killable(f->mm);
	f->mmap_locked = !f->error;
	return f->mmap_locked;
}

static void unlock_mmap(struct mmu_invlock_fault *f)
{
	if (!f->mmap_locked)
		return;
	if (f->slow)
		mmap_write_unlock(f->mm);
	else
		mmap_read_unlock(f->mm);
	f->mmap_locked = false;
}

/* the optimistic budget is spent: as much time again, and a few rounds */
static bool go_slow(struct mmu_invlock_fault *f)
{
	struct invlock_budget budget = {
		.rounds = MMU_INVLOCK_SLOW_ROUNDS,
		.time_ns = f->section.left.time_ns,
	};

	if (f->slow || invlock_section_error(&f->section) != -EBUSY)
		return false;
	f->slow = true;
	f->collisions += f->section.collisions;
	f->waits += f->section.waits;
	invlock_section_init(&f->section, &f->inv->il, f->range.start, f->range.end, &budget,
			     INVLOCK_SECTION_INTERRUPTIBLE);
	return true;
}

/*
 * From here to the commit every invalidation of the range counts as interesting, and moves the
 * generation. This begins before the sample: one that started between the two would leave the
 * generation alone, and not be found running either, as the sample is older than it.
 */
static void enter_flight(struct mmu_invlock_fault *f)
{
	if (bad_is(BAD_ENTRY))
		return;
	spin_lock(f->inv->lock);
	list_add(&f->in_flight, &f->inv->faults);
	spin_unlock(f->inv->lock);
}

static void leave_flight(struct mmu_invlock_fault *f)
{
	spin_lock(f->inv->lock);
	list_del_init(&f->in_flight);
	spin_unlock(f->inv->lock);
}

/* not under the mmap lock: the invalidation that is waited for may hold it */
static bool wait_until_quiet(struct mmu_invlock_fault *f)
{
	while (!invlock_attempt(&f->section))
		if (!go_slow(f))
			return false;
	return true;
}

/* Locks: the mmap lock, inv->lock; in flight. Return: this is the sample that counts */
static bool sample_locked(struct mmu_invlock_fault *f)
{
	bool fresh;

	f->range.notifier_seq = 0;
	WRITE_ONCE(f->walk.invalidate_seq, 0);
	fresh = invlock_resample(&f->section);
	if (bad_is(BAD_HOIST) && f->section.collisions)
		f->section.snap = (struct invlock_snapshot){};
	return fresh;
}

/* most faults find no lock taken and nothing running: then this is all */
static bool attempt_at_once(struct mmu_invlock_fault *f)
{
	if (f->slow || bad_is(BAD_ENTRY) || !mmap_read_trylock(f->mm))
		return false;
	spin_lock(f->inv->lock);
	f->mmap_locked = sample_locked(f);
	if (f->mmap_locked)
		list_add(&f->in_flight, &f->inv->faults);
	spin_unlock(f->inv->lock);
	if (!f->mmap_locked)
		mmap_read_unlock(f->mm);
	return f->mmap_locked;
}

static bool attempt_and_wait(struct mmu_invlock_fault *f)
{
	enter_flight(f);
	if (!wait_until_quiet(f) || !lock_mmap(f)) {
		leave_flight(f);
		return false;
	}
	spin_lock(f->inv->lock);
	/* what came and went while the mmap lock was waited for is no collision */
	sample_locked(f);
	if (bad_is(BAD_ENTRY))
		list_move(&f->in_flight, &f->inv->faults);
	spin_unlock(f->inv->lock);
	return true;
}

bool mmu_invlock_attempt(struct mmu_invlock_fault *f)
{
	if (f->error || f->section.done)
		return false;
	might_lock_read(&f->mm->mmap_lock);
	lockdep_assert_not_held(f->inv->lock);
	if (WARN_ON_ONCE(f->mmap_locked)) {
		/* an attempt without a commit */
		f->error = -EINVAL;
		return false;
	}
	/* rounds that collide need not wait anywhere, and may be many */
	if (f->section.collisions && fatal_signal_pending(current)) {
		f->error = -EINTR;
		return false;
	}
	return attempt_at_once(f) || attempt_and_wait(f);
}
EXPORT_SYMBOL_GPL(mmu_invlock_attempt);

/* Locks: inv->lock. Return: every page was present, with the access that is asked for */
static bool look_up_pages(struct mmu_invlock_fault *f)
{
	bool write = f->range.default_flags & HMM_PFN_REQ_WRITE;
	unsigned long addr = f->range.start;
	unsigned long *pfn = f->range.hmm_pfns;
	struct page *page;

	for (; addr < f->range.end; addr += PAGE_SIZE, pfn++) {
		/* walks with interrupts off and takes no lock that sleeps */
		if (get_user_pages_fast_only(addr, 1, write ? FOLL_WRITE : 0, &page) != 1)
			return false;
		*pfn = page_to_pfn(page) | HMM_PFN_VALID | (write ? HMM_PFN_WRITE : 0);
		/* not the last reference: the page table has one, and nobody can clear it now */
		put_page(page);
	}
	return true;
}

/*
 * One more round, begun and ended under inv->lock. Each invalidation needs that lock to
 * start, so when none runs now, none changes the range before it drops.
 */
static bool walk_again_locked(struct mmu_invlock_fault *f)
{
	struct invlock_snapshot before = f->section.snap;

	/* the fast walk knows the page table of current only */
	if (!f->range.hmm_pfns || current->mm != f->mm || !invlock_resample(&f->section))
		return false;
	if (look_up_pages(f))
		return true;
	/* some entries are newer than this sample, none is older */
	f->section.snap = before;
	return false;
}

bool mmu_invlock_commit(struct mmu_invlock_fault *f, int err)
{
	bool good = false;

	lockdep_assert_held(f->inv->lock);
	if (WARN_ON_ONCE(!f->mmap_locked))
		return false;
	list_del_init(&f->in_flight);
	if (f->slow && (!err || err == -EBUSY) && walk_again_locked(f)) {
		f->walked_locked = true;
		err = 0;
	}
	if (bad_is(BAD_LATE) || (bad_is(BAD_SLOW) && f->slow))
		invlock_resample(&f->section);
	if (!err)
		good = invlock_commit(&f->section);
	else if (err == -EBUSY)
		invlock_undo(&f->section);
	else
		f->error = err;
	unlock_mmap(f);
	return good;
}
EXPORT_SYMBOL_GPL(mmu_invlock_commit);

int mmu_invlock_fault_end(struct mmu_invlock_fault *f)
{
	if (WARN_ON_ONCE(f->mmap_locked)) {
		/* the loop was left without a commit: nothing was published, and f goes away */
		leave_flight(f);
		unlock_mmap(f);
		f->error = f->error ?: -EINVAL;
	}
	f->collisions += f->section.collisions;
	f->waits += f->section.waits;
	if (!f->error)
		f->error = invlock_section_error(&f->section);
	if (f->mm)
		mmput(f->mm);
	f->mm = NULL;
	return f->error;
}
EXPORT_SYMBOL_GPL(mmu_invlock_fault_end);
