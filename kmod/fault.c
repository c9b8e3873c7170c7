// SPDX-License-Identifier: GPL-2.0-only
/*
 * The read side: the slow paths of the fault loop. mmu_invlock.h is its contract.
 *
 * A fault makes progress in four steps, and each step is bounded:
 *	1. It takes optimistic rounds, with the mmap lock held for reading, until its budget of
 *	   rounds or time is spent.
 *	2. It takes rounds with the mmap lock held for writing. munmap, mremap and mprotect have
 *	   to wait meanwhile.
 *	3. If such a round was undone, it looks up the pages again under the driver's lock. There,
 *	   invalidations that need no mmap lock (truncation, reclaim) have to wait, too. No more
 *	   than MMU_INVLOCK_LOCKED_PAGES pages are looked up in this way.
 *	4. It fails with -EBUSY.
 * Every step checks before it publishes.
 *
 * Why this is correct: inv->lock orders starts, ends, mmu_invlock_fault_enter() and commits, and
 * a fault enters only while no invalidation of its range is running. An invalidation of the range
 * therefore falls into one of three cases:
 *	- It ended before the fault entered: the walk sees the changed page table.
 *	- It started between the entry and the commit: it undoes the fault.
 *	- It started after the commit: before it changes the page table, it removes from the
 *	  driver's table what the fault published.
 * All these decisions are made under inv->lock, so they need no other barrier.
 *
 *	fault					invalidation
 *	-----					------------
 *	lock: nothing runs, enter; unlock
 *	walk the page table
 *						lock: start sets invalidate_seq; unlock
 *						change the page table
 *	lock: commit sees invalidate_seq,
 *	      does not publish; unlock
 *						lock: end; unlock
 *	next round: wait for the end, walk again
 *
 * Lock order: mmap lock, inv->lock. Nobody sleeps while holding inv->lock.
 */
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "mmu_invlock.h"

void mmu_invlock_fault_init_slow(struct mmu_invlock_fault *f)
{
	unsigned long start = f->start, end = f->end;

	if (start >= end || (start | end) & ~PAGE_MASK)
		f->error = -EINVAL;
	else if (current->mm != f->walk.mm && !mmget_not_zero(f->walk.mm))
		f->error = -EOWNERDEAD;
	else
		f->mm_held = current->mm != f->walk.mm;
	if (f->error)
		f->state = MMU_INVLOCK_DONE;
}
EXPORT_SYMBOL_GPL(mmu_invlock_fault_init_slow);

/* The clock starts with the first collision or wait: most loops never read it. */
void mmu_invlock_left_start_clock(struct mmu_invlock_left *left)
{
	if (!left->deadline)
		left->deadline = ktime_get_ns() + min_t(u64, left->time_ns, S64_MAX);
}

/*
 * When the budget of the optimistic rounds is spent, the slow path begins, with
 * MMU_INVLOCK_SLOW_ROUNDS rounds and the same time. Return: 0 if another round may begin, or the
 * error that ends the loop.
 */
int mmu_invlock_left_check(struct mmu_invlock_left *left)
{
	/* many rounds may collide without a wait, which would look for signals */
	if (fatal_signal_pending(current))
		return -EINTR;
	if (left->rounds && (!left->deadline || ktime_get_ns() < left->deadline))
		return 0;
	if (left->slow)
		return -EBUSY;
	left->slow = true;
	left->rounds = MMU_INVLOCK_SLOW_ROUNDS;
	left->deadline = 0;
	return 0;
}

/* How long a wait may take. */
long mmu_invlock_left_jiffies(const struct mmu_invlock_left *left)
{
	u64 now = ktime_get_ns();

	if (now >= left->deadline)
		return 1;
	return min_t(u64, nsecs_to_jiffies64(left->deadline - now) + 1, MAX_SCHEDULE_TIMEOUT - 1);
}

static int mmu_invlock_fault_lock_mm(struct mmu_invlock_fault *f)
{
	return f->left.slow ? mmap_write_lock_killable(f->walk.mm) :
			      mmap_read_lock_killable(f->walk.mm);
}

static void mmu_invlock_fault_unlock_mm(struct mmu_invlock_fault *f)
{
	if (f->left.slow)
		mmap_write_unlock(f->walk.mm);
	else
		mmap_read_unlock(f->walk.mm);
}

static bool mmu_invlock_wide_are_elsewhere(const struct mmu_invlock *inv, unsigned long start,
					   unsigned long end)
{
	for (u32 i = 0; i < MMU_INVLOCK_NR_WIDE; i++)
		if (inv->wide[i].nr && inv->wide[i].start < end && start < inv->wide[i].end)
			return false;
	return true;
}

/* Invalidations that are too wide for stripes do not count here: inv->wide has them. */
static bool mmu_invlock_stripes_are_quiet(const struct mmu_invlock *inv, unsigned long start,
					  unsigned long end)
{
	unsigned long first = start >> MMU_INVLOCK_STRIPE_SHIFT;
	unsigned long last = (end - 1) >> MMU_INVLOCK_STRIPE_SHIFT;

	if (last - first >= MMU_INVLOCK_NR_COUNTERS)
		return !memchr_inv(inv->counters, 0, sizeof(inv->counters));
	for (unsigned long stripe = first; stripe <= last; stripe++)
		if (inv->counters[mmu_invlock_counter_of(stripe)])
			return false;
	return true;
}

/*
 * May the fault be put in flight? Locks: inv->lock. Return: 0 if it may; -EAGAIN while an
 * invalidation of the range is running; or the error with which every fault fails.
 */
static int mmu_invlock_fault_check_quiet(const struct mmu_invlock_fault *f)
{
	const struct mmu_invlock *inv = f->inv;

	lockdep_assert_held(inv->lock);
	if (inv->closed || !inv->running)
		return inv->closed;
	return mmu_invlock_wide_are_elsewhere(inv, f->start, f->end) &&
	       mmu_invlock_stripes_are_quiet(inv, f->start, f->end) ? 0 : -EAGAIN;
}

static int mmu_invlock_fault_look(struct mmu_invlock_fault *f)
{
	int err;

	spin_lock(f->inv->lock);
	err = mmu_invlock_fault_check_quiet(f);
	spin_unlock(f->inv->lock);
	return err;
}

/*
 * Locks: not the mmap lock, which the running invalidation may hold until it ends. Return: as
 * mmu_invlock_fault_check_quiet(), where -EAGAIN means that the time is spent; or -EINTR.
 */
static int mmu_invlock_fault_wait_until_quiet(struct mmu_invlock_fault *f)
{
	int err = mmu_invlock_fault_look(f);
	long left;

	if (err != -EAGAIN)
		return err;
	f->waits++;
	mmu_invlock_left_start_clock(&f->left);
	left = wait_event_killable_timeout(f->inv->quiet,
					   (err = mmu_invlock_fault_look(f)) != -EAGAIN,
					   mmu_invlock_left_jiffies(&f->left));
	return left < 0 ? -EINTR : err;
}

/*
 * Put the fault in flight if the range is quiet. Locks: the mmap lock, which is dropped unless the
 * result is 0. Return: as mmu_invlock_fault_check_quiet().
 */
static int mmu_invlock_fault_try_enter(struct mmu_invlock_fault *f)
{
	int err;

	spin_lock(f->inv->lock);
	/*
	 * Check again: an invalidation may have started while this task waited for the mmap lock.
	 * It undid the faults that were in flight then, so it would not undo this one.
	 */
	err = mmu_invlock_fault_check_quiet(f);
	if (!err)
		mmu_invlock_fault_enter(f);
	spin_unlock(f->inv->lock);
	if (err)
		mmu_invlock_fault_unlock_mm(f);
	return err;
}

/* Return: 0 if the fault is in flight now, or the error that ends the loop. */
static int mmu_invlock_fault_attempt(struct mmu_invlock_fault *f)
{
	int err;

	do {
		err = mmu_invlock_left_check(&f->left) ?:
		      mmu_invlock_fault_wait_until_quiet(f) ?:
		      mmu_invlock_fault_lock_mm(f) ?:
		      mmu_invlock_fault_try_enter(f);
	} while (err == -EAGAIN);
	return err;
}

bool mmu_invlock_attempt_slow(struct mmu_invlock_fault *f)
{
	/* the driver left out the commit: mmu_invlock_fault_end() drops the mmap lock */
	if (WARN_ON_ONCE(f->state == MMU_INVLOCK_IN_FLIGHT))
		return false;
	f->error = mmu_invlock_fault_attempt(f);
	if (f->error)
		f->state = MMU_INVLOCK_DONE;
	return !f->error;
}
EXPORT_SYMBOL_GPL(mmu_invlock_attempt_slow);

/*
 * Locks: inv->lock, and the mmap lock for writing, so no mapping can change. Return: would
 * hmm_range_fault() accept every mapping of the range?
 */
static bool mmu_invlock_fault_is_mapped(const struct mmu_invlock_fault *f)
{
	struct vm_area_struct *vma;

	for (unsigned long addr = f->start; addr < f->end; addr = vma->vm_end) {
		vma = find_vma(f->walk.mm, addr);
		if (!vma || addr < vma->vm_start || !(vma->vm_flags & VM_READ) ||
		    vma->vm_flags & (VM_IO | VM_PFNMAP))
			return false;
	}
	return true;
}

/*
 * Locks: inv->lock. Return: was the page present, with the access that the driver asked for? Then
 * *pfn is what hmm_range_fault() would make of it, but the order of the mapping, which the entry
 * may have from a walk that is stale.
 */
static bool mmu_invlock_fault_look_up_page(const struct mmu_invlock_fault *f, unsigned long addr,
					   unsigned long *pfn)
{
	/* hmm_range_fault() leaves all other bits of an entry as they are */
	const unsigned long found = ~HMM_PFN_FLAGS | HMM_PFN_VALID | HMM_PFN_WRITE | HMM_PFN_ERROR |
				    0x1fUL << HMM_PFN_ORDER_SHIFT;
	struct page *page;
	bool write;

	/* this call walks the page table with interrupts off and takes no sleeping lock */
	write = get_user_pages_fast_only(addr, 1, FOLL_WRITE, &page) == 1;
	if (!write && (f->range.default_flags & HMM_PFN_REQ_WRITE ||
		       get_user_pages_fast_only(addr, 1, 0, &page) != 1))
		return false;
	*pfn = (*pfn & ~found) | page_to_pfn(page) | HMM_PFN_VALID | (write ? HMM_PFN_WRITE : 0);
	/*
	 * This is not the last reference: the page table has one, and nothing can remove that
	 * before inv->lock drops.
	 */
	put_page(page);
	return true;
}

/* Locks: inv->lock. Return: was every page looked up? */
static bool mmu_invlock_fault_look_up_pages(struct mmu_invlock_fault *f)
{
	unsigned long *pfn = f->range.hmm_pfns;

	for (unsigned long addr = f->start; addr < f->end; addr += PAGE_SIZE)
		if (!mmu_invlock_fault_look_up_page(f, addr, pfn++))
			return false;
	return true;
}

/*
 * Can the pages be looked up under inv->lock? get_user_pages_fast_only() walks only the page table
 * of the current task. What an entry asked for is lost after a walk, and so is the beginning of
 * hmm_pfns once the driver has moved the range.
 */
static bool mmu_invlock_fault_can_look_up(const struct mmu_invlock_fault *f)
{
	return f->range.hmm_pfns && !f->range.pfn_flags_mask && current->mm == f->walk.mm &&
	       f->range.start == f->start && f->range.end == f->end &&
	       (f->end - f->start) >> PAGE_SHIFT <= MMU_INVLOCK_LOCKED_PAGES;
}

/*
 * Locks: inv->lock. This is one more round, which begins and ends under inv->lock. An invalidation
 * needs that lock to start. If none is running now, none can change the range until the lock drops.
 */
static bool mmu_invlock_fault_walk_locked(struct mmu_invlock_fault *f)
{
	f->walked_locked = mmu_invlock_fault_can_look_up(f) && !mmu_invlock_fault_check_quiet(f) &&
			   mmu_invlock_fault_is_mapped(f) && mmu_invlock_fault_look_up_pages(f);
	return f->walked_locked;
}

bool mmu_invlock_commit_slow(struct mmu_invlock_fault *f, int err)
{
	bool good;

	if (WARN_ON_ONCE(f->state != MMU_INVLOCK_IN_FLIGHT))
		return false;
	hlist_del(&f->in_flight);
	good = !err && !f->walk.invalidate_seq;
	if (!good && f->left.slow && (!err || err == -EBUSY))
		good = mmu_invlock_fault_walk_locked(f);
	f->state = MMU_INVLOCK_DONE;
	if (err && err != -EBUSY) {
		f->error = err;
	} else if (!good) {
		f->state = MMU_INVLOCK_AGAIN;
		f->collisions++;
		f->left.rounds--;
		mmu_invlock_left_start_clock(&f->left);
	}
	mmu_invlock_fault_unlock_mm(f);
	return good;
}
EXPORT_SYMBOL_GPL(mmu_invlock_commit_slow);

int mmu_invlock_fault_end_slow(struct mmu_invlock_fault *f)
{
	if (WARN_ON_ONCE(f->state == MMU_INVLOCK_IN_FLIGHT)) {
		/* the driver left the loop without a commit, and f is about to go out of scope */
		spin_lock(f->inv->lock);
		hlist_del(&f->in_flight);
		spin_unlock(f->inv->lock);
		mmu_invlock_fault_unlock_mm(f);
	}
	if (f->state != MMU_INVLOCK_DONE)
		f->error = -EINVAL;
	if (f->mm_held)
		mmput(f->walk.mm);
	return f->error;
}
EXPORT_SYMBOL_GPL(mmu_invlock_fault_end_slow);
