// SPDX-License-Identifier: GPL-2.0-only
/* The invalidation side: see mmu_invlock.h. Everything here but init runs under inv->lock. */
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

#include "bad.h"
#include "core/invalidate.h"
#include "mmu_invlock.h"

/* no ring: what undoes a fault is known without one */
static const struct mmu_invlock_geometry default_geometry = { .nr_words = 256 };

int mmu_invlock_init(struct mmu_invlock *inv, spinlock_t *lock, const struct mmu_invlock_ops *ops,
		     const struct mmu_invlock_geometry *geometry)
{
	u64 bytes;
	void *mem;
	int err;

	if (!geometry)
		geometry = &default_geometry;
	bytes = invlock_feed_bytes(geometry->nr_words, geometry->nr_events);
	if (!bytes)
		return -EINVAL;
	/*
	 * Zeroed, and whole pages: /dev/invlock maps it. A cgroup that is full says no, and
	 * nobody is killed for it.
	 */
	mem = __vmalloc(PAGE_ALIGN(bytes), GFP_KERNEL_ACCOUNT | __GFP_ZERO |
					   __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
	if (!mem)
		return -ENOMEM;
	err = invlock_feed_format(mem, bytes, geometry->nr_words, geometry->nr_events,
				  INVLOCK_STRIPE_SHIFT);
	if (!err)
		err = invlock_attach(&inv->il, mem, bytes);
	if (err) {
		vfree(mem);
		return err;
	}
	inv->lock = lock;
	inv->ops = ops;
	INIT_HLIST_HEAD(&inv->faults);
	inv->running = 0;
	inv->closed = 0;
	inv->nr_wide = 0;
	return 0;
}
EXPORT_SYMBOL_GPL(mmu_invlock_init);

void mmu_invlock_destroy(struct mmu_invlock *inv)
{
	WARN_ON_ONCE(!hlist_empty(&inv->faults));
	vfree(inv->il.feed);
	inv->il.feed = NULL;
}
EXPORT_SYMBOL_GPL(mmu_invlock_destroy);

struct mmu_invlock *mmu_invlock_get(const struct mmu_notifier_ops *ops, struct mm_struct *mm)
{
	struct mmu_notifier *mn = mmu_notifier_get(ops, mm);

	return IS_ERR(mn) ? ERR_CAST(mn) : container_of(mn, struct mmu_invlock, notifier);
}
EXPORT_SYMBOL_GPL(mmu_invlock_get);

u32 mmu_invlock_kind(const struct mmu_notifier_range *range)
{
	switch (range->event) {
	case MMU_NOTIFY_UNMAP:
		return INVLOCK_KIND_UNMAP;
	case MMU_NOTIFY_CLEAR:
		return current->reclaim_state ? INVLOCK_KIND_MIGRATE : INVLOCK_KIND_DISCARD;
	case MMU_NOTIFY_PROTECTION_VMA:
	case MMU_NOTIFY_PROTECTION_PAGE:
		return INVLOCK_KIND_PROTECT;
	case MMU_NOTIFY_SOFT_DIRTY:
		return INVLOCK_KIND_SOFT_DIRTY;
	case MMU_NOTIFY_MIGRATE:
		return INVLOCK_KIND_MIGRATE;
	case MMU_NOTIFY_RELEASE:
		return INVLOCK_KIND_RELEASE;
	default:
		return INVLOCK_KIND_UNKNOWN;
	}
}
EXPORT_SYMBOL_GPL(mmu_invlock_kind);

static void undo_fault(struct mmu_invlock_fault *f)
{
	/* pairs with the read in hmm_range_fault(), which then gives up */
	WRITE_ONCE(f->walk.invalidate_seq, 1);
}

static void undo_faults(struct mmu_invlock *inv, const struct mmu_notifier_range *range,
			bool interesting)
{
	struct mmu_invlock_fault *f;

	if (bad_is(BAD_UNCHECKED) || (bad_is(BAD_INTEREST) && !interesting))
		return;
	hlist_for_each_entry(f, &inv->faults, in_flight)
		if (f->range.start < range->end && range->start < f->range.end)
			undo_fault(f);
}

/* few words would tell one wide range from another: what they have in common is kept instead */
static void widen(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	unsigned long end = range->end > range->start ? range->end : ULONG_MAX;

	inv->wide_start = inv->nr_wide ? min(inv->wide_start, range->start) : range->start;
	inv->wide_end = inv->nr_wide ? max(inv->wide_end, end) : end;
	inv->nr_wide++;
}

/* no fault succeeds any more, nor one in flight */
static void close_lock(struct mmu_invlock *inv, int err, u64 flag)
{
	struct mmu_invlock_fault *f;

	hlist_for_each_entry(f, &inv->faults, in_flight)
		undo_fault(f);
	if (inv->closed != -EOWNERDEAD)
		inv->closed = err;
	invlock_close_feed(&inv->il, flag);
}

/* task_pid_vnr(current): a task that has an mm has its pid, whose last number is the one it sees */
static u32 own_tid(void)
{
	const struct pid *pid = task_pid(current);

	return pid->numbers[pid->level].nr;
}

static inline void record(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	u32 tid = 0;
	u64 time = 0;

	/* who and when is for the ring alone */
	if (inv->il.events) {
		tid = current->mm == inv->notifier.mm ? own_tid() : 0;
		time = ktime_get_ns();
	}
	invlock_inv_start(&inv->il, range->start, range->end, mmu_invlock_kind(range), tid, time);
}

void mmu_invlock_inv_start(struct mmu_invlock *inv, const struct mmu_notifier_range *range,
			   bool interesting)
{
	lockdep_assert_held(inv->lock);
	if (!hlist_empty(&inv->faults))
		undo_faults(inv, range, interesting);
	inv->running++;
	/* so many at once are ends that do not come; no word of the lock can count as many */
	if (unlikely(inv->running >= INVLOCK_RUNNING_LIMIT) && !inv->closed)
		close_lock(inv, -ENOTRECOVERABLE, INVLOCK_FEED_DEGRADED);
	if (invlock_is_wide(&inv->il, range->start, range->end))
		widen(inv, range);
	if (interesting)
		record(inv, range);
	else
		invlock_words_add(&inv->il, range->start, range->end, 1);
}
EXPORT_SYMBOL_GPL(mmu_invlock_inv_start);

void mmu_invlock_inv_end(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	lockdep_assert_held(inv->lock);
	if (WARN_ON_ONCE(!inv->running)) {
		close_lock(inv, -ENOTRECOVERABLE, INVLOCK_FEED_DEGRADED);
		return;
	}
	inv->running--;
	if (invlock_is_wide(&inv->il, range->start, range->end))
		inv->nr_wide--;
	invlock_inv_end(&inv->il, range->start, range->end);
}
EXPORT_SYMBOL_GPL(mmu_invlock_inv_end);

void mmu_invlock_release(struct mmu_invlock *inv)
{
	lockdep_assert_held(inv->lock);
	close_lock(inv, -EOWNERDEAD, INVLOCK_FEED_DEAD);
}
EXPORT_SYMBOL_GPL(mmu_invlock_release);

int mmu_invlock_range_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct mmu_invlock *inv = container_of(mn, struct mmu_invlock, notifier);

	if (bad_is(BAD_START))
		return 0;
	spin_lock(inv->lock);
	mmu_invlock_inv_start(inv, range, inv->ops->invalidate(inv, range));
	spin_unlock(inv->lock);
	return 0;
}
EXPORT_SYMBOL_GPL(mmu_invlock_range_start);

void mmu_invlock_range_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct mmu_invlock *inv = container_of(mn, struct mmu_invlock, notifier);

	if (bad_is(BAD_END))
		return;
	spin_lock(inv->lock);
	mmu_invlock_inv_end(inv, range);
	spin_unlock(inv->lock);
}
EXPORT_SYMBOL_GPL(mmu_invlock_range_end);

void mmu_invlock_mm_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct mmu_invlock *inv = container_of(mn, struct mmu_invlock, notifier);

	spin_lock(inv->lock);
	inv->ops->release(inv);
	mmu_invlock_release(inv);
	spin_unlock(inv->lock);
}
EXPORT_SYMBOL_GPL(mmu_invlock_mm_release);
