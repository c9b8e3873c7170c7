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
 * Starts, ends, mmu_invlock_enter() and commits are ordered by inv->lock. A fault enters only
 * where no invalidation of its range is between start and end. So what ends before that is
 * seen by the walk; what starts between it and the commit undoes the fault; what starts later
 * takes out of the driver's table what was published, before it changes anything. Nothing is
 * read outside of the lock to decide this, so no barrier is needed beside it.
 *
 * Lock order: mmap lock, inv->lock. inv->lock is only ever held for a moment.
 */
#include <linux/module.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "bad.h"
#include "mmu_invlock.h"

void __mmu_invlock_fault_init(struct mmu_invlock_fault *f)
{
	unsigned long start = f->range.start, end = f->range.end;

	if (start >= end || (start | end) & ~PAGE_MASK)
		f->error = -EINVAL;
	else if (current->mm != f->walk.mm && !mmget_not_zero(f->walk.mm))
		f->error = -EOWNERDEAD;
	else
		f->mm_held = current->mm != f->walk.mm;
	if (f->error)
		f->state = MMU_INVLOCK_DONE;
}
EXPORT_SYMBOL_GPL(__mmu_invlock_fault_init);

static int lock_mmap(struct mmu_invlock_fault *f)
{
	return f->slow ? mmap_write_lock_killable(f->walk.mm) : mmap_read_lock_killable(f->walk.mm);
}

static void unlock_mmap(struct mmu_invlock_fault *f)
{
	if (f->slow)
		mmap_write_unlock(f->walk.mm);
	else
		mmap_read_unlock(f->walk.mm);
}

/* from the first wait or collision on, rounds and time are counted */
static void count(struct mmu_invlock_fault *f)
{
	if (f->counting)
		return;
	f->counting = true;
	invlock_section_init(&f->section, &f->inv->il, f->range.start, f->range.end, f->budget,
			     INVLOCK_SECTION_INTERRUPTIBLE);
}

/* the optimistic budget is spent: as much time again, and a few rounds */
static bool go_slow(struct mmu_invlock_fault *f)
{
	struct invlock_budget budget = {
		.rounds = MMU_INVLOCK_SLOW_ROUNDS,
		.time_ns = f->section.left.time_ns,
	};

	if (f->slow)
		return false;
	f->slow = true;
	f->collisions += f->section.collisions;
	f->waits += f->section.waits;
	invlock_section_init(&f->section, &f->inv->il, f->range.start, f->range.end, &budget,
			     INVLOCK_SECTION_INTERRUPTIBLE);
	return true;
}

/* Return: 0: look again; -EBUSY: both budgets are spent; -EINTR: killed */
static int wait_a_turn(struct mmu_invlock_fault *f, u32 nr_waits)
{
	int err = invlock_section_wait(&f->section, nr_waits);

	return err == -EBUSY && go_slow(f) ? 0 : err;
}

/* for the range's stripes; what is too wide for stripes is known by its ends */
static bool stripes_are_quiet(const struct invlock *il, u64 start, u64 end)
{
	u64 first = start >> il->stripe_shift;
	u64 nr = min(invlock_nr_stripes(start, end, il->stripe_shift), il->word_mask + 1ULL);

	for (u64 i = 0; i < nr; i++)
		if (il->words[invlock_stripe_word(first + i, il->word_mask)] &
		    INVLOCK_RUNNING_MASK)
			return false;
	return true;
}

/* Locks: inv->lock. Return: 0; -EAGAIN while an invalidation of the range runs; why not ever */
static int ask_quiet(const struct mmu_invlock_fault *f)
{
	const struct mmu_invlock *inv = f->inv;

	if (inv->closed || !inv->running)
		return inv->closed;
	if (inv->nr_wide && inv->wide_start < f->range.end && f->range.start < inv->wide_end)
		return -EAGAIN;
	return stripes_are_quiet(&inv->il, f->range.start, f->range.end) ? 0 : -EAGAIN;
}

/* not under the mmap lock: the invalidation that is waited for may hold it */
static int wait_until_quiet(struct mmu_invlock_fault *f)
{
	u32 nr_waits = 0;
	int err;

	do {
		spin_lock(f->inv->lock);
		err = ask_quiet(f);
		spin_unlock(f->inv->lock);
		if (err == -EAGAIN)
			err = wait_a_turn(f, nr_waits++) ?: -EAGAIN;
	} while (err == -EAGAIN);
	return err;
}

/* Locks: the mmap lock, which is kept on success only. Return: 0, -EAGAIN, or why not ever */
static int enter(struct mmu_invlock_fault *f)
{
	int err;

	spin_lock(f->inv->lock);
	/* what began while the mmap lock was waited for would not be undone by its end */
	err = bad_is(BAD_ENTRY) ? 0 : ask_quiet(f);
	if (!err)
		mmu_invlock_enter(f);
	if (bad_is(BAD_HOIST) && f->section.collisions)
		f->walk.invalidate_seq = 1;
	spin_unlock(f->inv->lock);
	if (err)
		unlock_mmap(f);
	return err;
}

/* Return: 0 when in flight, or why not */
static int attempt(struct mmu_invlock_fault *f)
{
	u32 nr_waits = 0;
	int err;

	count(f);
	if (invlock_section_error(&f->section) && !go_slow(f))
		return invlock_section_error(&f->section);
	do {
		/* rounds that collide need not wait anywhere, and may be many */
		if (fatal_signal_pending(current))
			return -EINTR;
		err = wait_until_quiet(f) ?: lock_mmap(f) ?: enter(f);
		if (err == -EAGAIN)
			err = wait_a_turn(f, nr_waits++) ?: -EAGAIN;
	} while (err == -EAGAIN);
	return err;
}

bool __mmu_invlock_attempt(struct mmu_invlock_fault *f)
{
	/* an attempt without its commit: mmu_invlock_fault_end() puts it right */
	if (WARN_ON_ONCE(f->state == MMU_INVLOCK_IN_FLIGHT))
		return false;
	might_lock_read(&f->walk.mm->mmap_lock);
	lockdep_assert_not_held(f->inv->lock);
	f->error = attempt(f);
	if (f->error)
		f->state = MMU_INVLOCK_DONE;
	return !f->error;
}
EXPORT_SYMBOL_GPL(__mmu_invlock_attempt);

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
	/* the fast walk knows the page table of current only */
	f->walked_locked = f->range.hmm_pfns && current->mm == f->walk.mm && !ask_quiet(f) &&
			   look_up_pages(f);
	return f->walked_locked;
}

/* Locks: inv->lock. Return: nothing has changed what was walked */
static bool walk_is_good(struct mmu_invlock_fault *f)
{
	bool good = !f->walk.invalidate_seq;

	if (bad_is(BAD_LATE) || (bad_is(BAD_SLOW) && f->slow))
		good = !ask_quiet(f);
	return good;
}

bool __mmu_invlock_commit(struct mmu_invlock_fault *f, int err)
{
	bool good;

	if (WARN_ON_ONCE(f->state != MMU_INVLOCK_IN_FLIGHT))
		return false;
	hlist_del(&f->in_flight);
	if (f->slow && (!err || err == -EBUSY) && walk_again_locked(f))
		good = true;
	else
		good = !err && walk_is_good(f);
	f->state = MMU_INVLOCK_DONE;
	if (err && err != -EBUSY) {
		f->error = err;
	} else if (!good) {
		f->state = MMU_INVLOCK_AGAIN;
		count(f);
		invlock_undo(&f->section);
	}
	unlock_mmap(f);
	return good;
}
EXPORT_SYMBOL_GPL(__mmu_invlock_commit);

int __mmu_invlock_fault_end(struct mmu_invlock_fault *f)
{
	if (WARN_ON_ONCE(f->state == MMU_INVLOCK_IN_FLIGHT)) {
		/* the loop was left without a commit: nothing was published, and f goes away */
		spin_lock(f->inv->lock);
		hlist_del(&f->in_flight);
		spin_unlock(f->inv->lock);
		unlock_mmap(f);
	}
	if (f->state != MMU_INVLOCK_DONE)
		f->error = -EINVAL;
	if (f->counting) {
		f->collisions += f->section.collisions;
		f->waits += f->section.waits;
	}
	if (f->mm_held)
		mmput(f->walk.mm);
	return f->error;
}
EXPORT_SYMBOL_GPL(__mmu_invlock_fault_end);
