// SPDX-License-Identifier: GPL-2.0-only
/* The invalidation side: see mmu_invlock.h. Everything here but init runs under inv->lock. */
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

#include "bad.h"
#include "core/invalidate.h"
#include "mmu_invlock.h"

static const struct mmu_invlock_geometry default_geometry = { .nr_words = 256, .nr_events = 256 };

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
	inv->running = 0;
	INIT_LIST_HEAD(&inv->faults);
	return 0;
}
EXPORT_SYMBOL_GPL(mmu_invlock_init);

void mmu_invlock_destroy(struct mmu_invlock *inv)
{
	WARN_ON_ONCE(!list_empty(&inv->faults));
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

/* tell the walks in flight over the range to give up. Return: was there one? */
static bool stop_walks(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	struct mmu_invlock_fault *f;
	bool found = false;

	list_for_each_entry(f, &inv->faults, in_flight) {
		if (f->range.start >= range->end || range->start >= f->range.end)
			continue;
		/* pairs with the read in hmm_range_fault(); only a hint, the commit decides */
		WRITE_ONCE(f->walk.invalidate_seq, f->range.notifier_seq + 1);
		found = true;
	}
	return found;
}

void mmu_invlock_inv_start(struct mmu_invlock *inv, const struct mmu_notifier_range *range,
			   bool interesting)
{
	u32 tid;

	lockdep_assert_held(inv->lock);
	inv->running++;
	if ((stop_walks(inv, range) && !bad_is(BAD_INTEREST)) || interesting) {
		tid = current->mm == inv->notifier.mm ? task_pid_vnr(current) : 0;
		invlock_inv_start(&inv->il, range->start, range->end, mmu_invlock_kind(range),
				  tid, ktime_get_ns());
		return;
	}
	/* running, so that no section begins; the generation stays, so that none is undone */
	if (invlock_words_add(&inv->il, range->start, range->end, 1) >= INVLOCK_RUNNING_LIMIT)
		invlock_close_feed(&inv->il, INVLOCK_FEED_DEGRADED);
}
EXPORT_SYMBOL_GPL(mmu_invlock_inv_start);

void mmu_invlock_inv_end(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	lockdep_assert_held(inv->lock);
	if (WARN_ON_ONCE(!inv->running)) {
		invlock_close_feed(&inv->il, INVLOCK_FEED_DEGRADED);
		return;
	}
	inv->running--;
	invlock_inv_end(&inv->il, range->start, range->end);
}
EXPORT_SYMBOL_GPL(mmu_invlock_inv_end);

void mmu_invlock_release(struct mmu_invlock *inv)
{
	struct mmu_invlock_fault *f;

	lockdep_assert_held(inv->lock);
	list_for_each_entry(f, &inv->faults, in_flight)
		WRITE_ONCE(f->walk.invalidate_seq, f->range.notifier_seq + 1);
	invlock_close_feed(&inv->il, INVLOCK_FEED_DEAD);
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
