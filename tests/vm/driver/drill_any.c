// SPDX-License-Identifier: GPL-2.0-only
/*
 * A fault of a driver whose lock sleeps. Lock order: mmap lock, any->lock.
 */
#include <linux/mmu_notifier.h>
#include <linux/sched.h>

#include "drill_file.h"
#include "kmod/mmu_invlock_any.h"

/* A driver whose lock sleeps, with a notifier for one fault. */
struct drill_any {
	struct mmu_interval_notifier notifier;
	struct mutex lock;
	struct task_struct *ending;	/* it ends its fault and holds the lock */
	bool reentered;
};

static bool drill_any_invalidate(struct mmu_interval_notifier *notifier,
				 const struct mmu_notifier_range *range, unsigned long seq)
{
	struct drill_any *any = container_of(notifier, struct drill_any, notifier);

	/* this task would wait for itself for ever */
	if (READ_ONCE(any->ending) == current) {
		any->reentered = true;
		mmu_interval_set_seq(notifier, seq);
		return true;
	}
	if (mmu_notifier_range_blockable(range))
		mutex_lock(&any->lock);
	else if (!mutex_trylock(&any->lock))
		return false;
	mmu_interval_set_seq(notifier, seq);
	mutex_unlock(&any->lock);
	return true;
}

static const struct mmu_interval_notifier_ops drill_any_ops = {
	.invalidate = drill_any_invalidate,
};

static int drill_any_loop(struct drill_file *d, struct drill *arg, struct drill_any *any)
{
	struct mmu_invlock_budget budget = { .rounds = arg->rounds, .time_ns = arg->time_ns };
	struct hmm_range range = {
		.notifier = &any->notifier,
		.start = arg->addr,
		.end = arg->addr + arg->len,
	};
	struct mmu_invlock_any_fault f;
	int err;

	arg->rounds = 0;
	mmu_invlock_any_init(&f, &range, &budget);
	while (mmu_invlock_any_attempt(&f)) {
		arg->rounds++;
		drill_hold_fault(d, arg->hold_us);
		mutex_lock(&any->lock);
		mmu_invlock_any_commit(&f, 0);
		mutex_unlock(&any->lock);
	}
	mutex_lock(&any->lock);
	WRITE_ONCE(any->ending, current);
	err = mmu_invlock_any_end(&f);
	WRITE_ONCE(any->ending, NULL);
	mutex_unlock(&any->lock);
	return err;
}

int drill_fault_any(struct drill_file *d, struct drill *arg)
{
	struct drill_any any = {};
	int err;

	mutex_init(&any.lock);
	err = mmu_interval_notifier_insert(&any.notifier, d->mm, arg->addr, arg->len,
					   &drill_any_ops);
	if (err)
		return err;
	drill_add(d, &d->faults, 1);
	err = drill_any_loop(d, arg, &any);
	drill_add(d, &d->faults, -1);
	mmu_interval_notifier_remove(&any.notifier);
	arg->reentered = any.reentered;
	return err;
}
