// SPDX-License-Identifier: GPL-2.0-only
/*
 * The write side: invalidations. mmu_invlock.h is its contract.
 *
 * Lock order: mmap lock, inv->lock. All functions here access inv->faults and the fields after it
 * under inv->lock, except for mmu_invlock_init() and mmu_invlock_destroy().
 */
#include <linux/export.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/wait.h>

#include "mmu_invlock.h"

/* All locks from mmu_invlock_init() to mmu_invlock_destroy(), which may run in a softirq. */
static LIST_HEAD(mmu_invlock_live);
static DEFINE_SPINLOCK(mmu_invlock_live_lock);
static DECLARE_WAIT_QUEUE_HEAD(mmu_invlock_destroyed);

void mmu_invlock_init(struct mmu_invlock *inv, spinlock_t *lock,
		      const struct mmu_invlock_ops *ops)
{
	inv->lock = lock;
	inv->ops = ops;
	INIT_HLIST_HEAD(&inv->faults);
	inv->running = 0;
	inv->closed = 0;
	memset(inv->wide, 0, sizeof(inv->wide));
	memset(inv->counters, 0, sizeof(inv->counters));
	init_waitqueue_head(&inv->quiet);
	spin_lock_bh(&mmu_invlock_live_lock);
	list_add(&inv->live, &mmu_invlock_live);
	spin_unlock_bh(&mmu_invlock_live_lock);
	mmu_invlock_prime(lock);
}
EXPORT_SYMBOL_GPL(mmu_invlock_init);

void mmu_invlock_destroy(struct mmu_invlock *inv)
{
	WARN_ON_ONCE(!hlist_empty(&inv->faults));
	spin_lock_bh(&mmu_invlock_live_lock);
	list_del(&inv->live);
	wake_up_all(&mmu_invlock_destroyed);
	spin_unlock_bh(&mmu_invlock_live_lock);
}
EXPORT_SYMBOL_GPL(mmu_invlock_destroy);

static bool mmu_invlock_all_are_destroyed(const struct mmu_notifier_ops *ops)
{
	struct mmu_invlock *inv;
	bool none = true;

	spin_lock_bh(&mmu_invlock_live_lock);
	list_for_each_entry(inv, &mmu_invlock_live, live)
		if (inv->notifier.ops == ops)
			none = false;
	spin_unlock_bh(&mmu_invlock_live_lock);
	return none;
}

void mmu_invlock_synchronize(const struct mmu_notifier_ops *ops)
{
	wait_event(mmu_invlock_destroyed, mmu_invlock_all_are_destroyed(ops));
	/* ->free_notifier runs with softirqs disabled, and has yet to return from the last lock */
	synchronize_rcu();
}
EXPORT_SYMBOL_GPL(mmu_invlock_synchronize);

static const struct mmu_notifier_ops mmu_invlock_registered_ops = { MMU_INVLOCK_NOTIFIER_OPS };

int mmu_invlock_register(struct mmu_invlock *inv, struct mm_struct *mm, spinlock_t *lock,
			 const struct mmu_invlock_ops *ops)
{
	int err;

	mmu_invlock_init(inv, lock, ops);
	inv->notifier.ops = &mmu_invlock_registered_ops;
	err = mmu_notifier_register(&inv->notifier, mm);
	if (err)
		mmu_invlock_destroy(inv);
	return err;
}
EXPORT_SYMBOL_GPL(mmu_invlock_register);

void mmu_invlock_unregister(struct mmu_invlock *inv)
{
	mmu_notifier_unregister(&inv->notifier, inv->notifier.mm);
	mmu_invlock_destroy(inv);
}
EXPORT_SYMBOL_GPL(mmu_invlock_unregister);

struct mmu_invlock *mmu_invlock_get(const struct mmu_notifier_ops *ops, struct mm_struct *mm)
{
	struct mmu_notifier *mn = mm ? mmu_notifier_get(ops, mm) : ERR_PTR(-EINVAL);

	return IS_ERR(mn) ? ERR_CAST(mn) : container_of(mn, struct mmu_invlock, notifier);
}
EXPORT_SYMBOL_GPL(mmu_invlock_get);

static void mmu_invlock_undo_fault(struct mmu_invlock_fault *f)
{
	/* hmm_range_fault() reads this, too, without the lock, and then stops early */
	WRITE_ONCE(f->walk.invalidate_seq, 1);
}

/* An end that is not above the start stands for the end of the address space. */
static unsigned long mmu_invlock_end_of(const struct mmu_notifier_range *range)
{
	return range->end > range->start ? range->end : ULONG_MAX;
}

static void mmu_invlock_undo_faults(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	unsigned long end = mmu_invlock_end_of(range);
	struct mmu_invlock_fault *f;

	hlist_for_each_entry(f, &inv->faults, in_flight)
		if (f->start < end && range->start < f->end)
			mmu_invlock_undo_fault(f);
}

static unsigned long mmu_invlock_nr_stripes(const struct mmu_notifier_range *range)
{
	return ((mmu_invlock_end_of(range) - 1) >> MMU_INVLOCK_STRIPE_SHIFT) -
	       (range->start >> MMU_INVLOCK_STRIPE_SHIFT) + 1;
}

static bool mmu_invlock_is_wide(const struct mmu_notifier_range *range)
{
	return mmu_invlock_nr_stripes(range) > MMU_INVLOCK_MAX_STRIPES;
}

static u32 *mmu_invlock_counter(struct mmu_invlock *inv, unsigned long stripe)
{
	return &inv->counters[mmu_invlock_counter_of(stripe)];
}

static void mmu_invlock_count_start(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	unsigned long stripe = range->start >> MMU_INVLOCK_STRIPE_SHIFT;

	for (unsigned long nr = mmu_invlock_nr_stripes(range); nr; nr--)
		(*mmu_invlock_counter(inv, stripe++))++;
}

/* Return: false if no such invalidation is running. */
static bool mmu_invlock_count_end(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	unsigned long stripe = range->start >> MMU_INVLOCK_STRIPE_SHIFT;

	for (unsigned long nr = mmu_invlock_nr_stripes(range); nr; nr--, stripe++) {
		if (!*mmu_invlock_counter(inv, stripe))
			return false;
		(*mmu_invlock_counter(inv, stripe))--;
	}
	return true;
}

/*
 * A wide invalidation covers nearly every counter, so they cannot say where it is. Its bounds are
 * kept instead.
 */
static void mmu_invlock_add_wide(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	unsigned long start = range->start, end = mmu_invlock_end_of(range);
	struct mmu_invlock_wide *last = &inv->wide[MMU_INVLOCK_NR_WIDE - 1], *wide;

	for (wide = inv->wide; wide < last; wide++)
		if (!wide->nr || (wide->start == start && wide->end == end))
			break;
	/* only the last one has room for different ranges */
	wide->start = wide->nr ? min(wide->start, start) : start;
	wide->end = wide->nr ? max(wide->end, end) : end;
	wide->nr++;
}

/* Return: false if no such invalidation is running. */
static bool mmu_invlock_remove_wide(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	unsigned long start = range->start, end = mmu_invlock_end_of(range);
	struct mmu_invlock_wide *last = &inv->wide[MMU_INVLOCK_NR_WIDE - 1], *wide;

	for (wide = inv->wide; wide < last; wide++)
		if (wide->nr && wide->start == start && wide->end == end)
			break;
	if (!wide->nr)
		return false;
	wide->nr--;
	return true;
}

/* From here on every fault fails, including those in flight. */
static void mmu_invlock_close(struct mmu_invlock *inv, int err)
{
	struct mmu_invlock_fault *f;

	hlist_for_each_entry(f, &inv->faults, in_flight)
		mmu_invlock_undo_fault(f);
	if (inv->closed != -EOWNERDEAD)
		inv->closed = err;
	wake_up_all(&inv->quiet);
}

void mmu_invlock_inv_start(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	lockdep_assert_held(inv->lock);
	if (!hlist_empty(&inv->faults))
		mmu_invlock_undo_faults(inv, range);
	inv->running++;
	if (mmu_invlock_is_wide(range))
		mmu_invlock_add_wide(inv, range);
	else
		mmu_invlock_count_start(inv, range);
}
EXPORT_SYMBOL_GPL(mmu_invlock_inv_start);

void mmu_invlock_inv_end(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	bool known;

	lockdep_assert_held(inv->lock);
	known = mmu_invlock_is_wide(range) ? mmu_invlock_remove_wide(inv, range) :
					     mmu_invlock_count_end(inv, range);
	if (WARN_ON_ONCE(!known)) {
		mmu_invlock_close(inv, -ENOTRECOVERABLE);
		return;
	}
	inv->running--;
	/* a fault queues before it looks under inv->lock: this finds it, or it looks later */
	if (waitqueue_active(&inv->quiet))
		wake_up_all(&inv->quiet);
}
EXPORT_SYMBOL_GPL(mmu_invlock_inv_end);

void mmu_invlock_release(struct mmu_invlock *inv)
{
	lockdep_assert_held(inv->lock);
	mmu_invlock_close(inv, -EOWNERDEAD);
}
EXPORT_SYMBOL_GPL(mmu_invlock_release);

int mmu_invlock_range_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct mmu_invlock *inv = container_of(mn, struct mmu_invlock, notifier);

	spin_lock(inv->lock);
	inv->ops->invalidate(inv, range);
	mmu_invlock_inv_start(inv, range);
	spin_unlock(inv->lock);
	return 0;
}
EXPORT_SYMBOL_GPL(mmu_invlock_range_start);

void mmu_invlock_range_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct mmu_invlock *inv = container_of(mn, struct mmu_invlock, notifier);

	spin_lock(inv->lock);
	mmu_invlock_inv_end(inv, range);
	spin_unlock(inv->lock);
}
EXPORT_SYMBOL_GPL(mmu_invlock_range_end);

void mmu_invlock_mm_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct mmu_invlock *inv = container_of(mn, struct mmu_invlock, notifier);

	const struct mmu_notifier_range all = {
		.mm = mm,
		.end = ULONG_MAX,
		.event = MMU_NOTIFY_RELEASE,
	};

	spin_lock(inv->lock);
	if (inv->ops->release)
		inv->ops->release(inv);
	else
		inv->ops->invalidate(inv, &all);
	mmu_invlock_release(inv);
	spin_unlock(inv->lock);
}
EXPORT_SYMBOL_GPL(mmu_invlock_mm_release);
