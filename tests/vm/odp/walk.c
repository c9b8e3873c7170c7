// SPDX-License-Identifier: GPL-2.0-only
/*
 * A part of the ib_core that is tested. What a test reads and writes is in
 * /sys/module/ib_core/parameters/.
 */
#include <linux/delay.h>
#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <rdma/ib_umem_odp.h>

#include "walk.h"

#undef hmm_range_fault

/* how long a walk is held at most, so that a test that went wrong ends */
#define HOLD_JIFFIES	(60 * HZ)

static atomic_t faults = ATOMIC_INIT(0);
static atomic_t walks = ATOMIC_INIT(0);
static atomic_t held = ATOMIC_INIT(0);
static atomic_t missed = ATOMIC_INIT(0);
static atomic_t collide = ATOMIC_INIT(0);

static int get(char *text, const struct kernel_param *param)
{
	return sysfs_emit(text, "%d\n", atomic_read(param->arg));
}

static int set(const char *text, const struct kernel_param *param)
{
	int value, err = kstrtoint(text, 0, &value);

	if (!err)
		atomic_set(param->arg, value);
	return err;
}

static const struct kernel_param_ops counter = { .get = get, .set = set };

module_param_cb(faults, &counter, &faults, 0600);
MODULE_PARM_DESC(faults, "how many faults there were");
module_param_cb(walks, &counter, &walks, 0600);
MODULE_PARM_DESC(walks, "how many rounds they took");
module_param_cb(collide, &counter, &collide, 0600);
MODULE_PARM_DESC(collide, "so many of the next walks wait for an invalidation of their range");
module_param_cb(held, &counter, &held, 0600);
MODULE_PARM_DESC(held, "how many walks have begun to wait");
module_param_cb(missed, &counter, &missed, 0600);
MODULE_PARM_DESC(missed, "how many of them waited in vain");

void odp_walk_count_fault(void)
{
	atomic_inc(&faults);
}

/* Return: false when the range stayed quiet for too long */
static bool odp_walk_hold(struct hmm_range *range)
{
	unsigned long end = jiffies + HOLD_JIFFIES;

	atomic_inc(&held);
	while (!mmu_interval_check_retry(range->notifier, range->notifier_seq)) {
		if (time_after(jiffies, end)) {
			atomic_inc(&missed);
			return false;
		}
		usleep_range(100, 200);
	}
	return true;
}

/*
 * A walk that is held has read the page table, and then writes what it found when the invalidation
 * has removed it. A walk that is preempted between the two does the same.
 */
int odp_walk(struct hmm_range *range)
{
	struct ib_umem_odp *odp = container_of(range->notifier, struct ib_umem_odp, notifier);
	size_t size = (range->end - range->start) >> PAGE_SHIFT;
	void *found;
	int err;

	size *= sizeof(*range->hmm_pfns);
	atomic_inc(&walks);
	err = hmm_range_fault(range);
	if (err || !atomic_add_unless(&collide, -1, 0))
		return err;
	found = kvmemdup(range->hmm_pfns, size, GFP_KERNEL);
	if (found && odp_walk_hold(range)) {
		/* an invalidation holds it until it has removed everything */
		mutex_lock(&odp->umem_mutex);
		memcpy(range->hmm_pfns, found, size);
		mutex_unlock(&odp->umem_mutex);
	}
	kvfree(found);
	return 0;
}
