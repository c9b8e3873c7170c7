// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two mirrors on an mmu_interval_notifier:
 *
 *	/dev/invlock_any	the example of a driver whose lock sleeps, with mmu_invlock_any.h.
 *				invlock_any_fault() and invlock_any_invalidate() are what such a
 *				driver needs.
 *	/dev/invlock_interval	without mmu_invlock, as drivers have done it so far: a loop that
 *				retries, and a timeout. It serves for comparison only.
 *
 * Each open file has one notifier. It watches the whole address space, or a range that the
 * program chooses with INVLOCK_MIRROR_RANGE, as drivers with on-demand registrations do.
 *
 * Lock order: gate, mmap lock, lock (only of /dev/invlock_any), dev.table.xa_lock.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <invlock/dev.h>

#include "mirror.h"
#include "mirror_device.h"
#include "mmu_invlock_any.h"

/* drivers that retry like this allow a fault about this much time */
#define TIMEOUT_NS	NSEC_PER_SEC

struct interval {
	struct mmu_interval_notifier notifier;
	struct mirror_device dev;
	struct mm_struct *mm;			/* held with mmgrab() */
	struct rw_semaphore gate;		/* held for writing to replace the notifier */
	bool watching;				/* notifier is registered; guarded by gate */
	const struct mmu_interval_notifier_ops *ops;
	struct mutex lock;			/* the driver's lock of /dev/invlock_any */
};

static void invlock_interval_zap_locked(struct interval *iv, const struct mmu_notifier_range *range)
{
	bool found;

	found = !xa_empty(&iv->dev.table) &&
		invlock_device_zap(&iv->dev, range->start >> PAGE_SHIFT,
				   (range->end - 1) >> PAGE_SHIFT);
	iv->dev.stats.starts++;
	iv->dev.stats.zapped += found;
}

static bool invlock_interval_invalidate(struct mmu_interval_notifier *notifier,
					const struct mmu_notifier_range *range, unsigned long seq)
{
	struct interval *iv = container_of(notifier, struct interval, notifier);

	xa_lock(&iv->dev.table);
	mmu_interval_set_seq(notifier, seq);
	invlock_interval_zap_locked(iv, range);
	xa_unlock(&iv->dev.table);
	return true;
}

static const struct mmu_interval_notifier_ops invlock_interval_ops = {
	.invalidate = invlock_interval_invalidate,
};

/* --- a driver whose lock sleeps --- */

static bool invlock_any_invalidate(struct mmu_interval_notifier *notifier,
				   const struct mmu_notifier_range *range, unsigned long seq)
{
	struct interval *iv = container_of(notifier, struct interval, notifier);

	if (mmu_notifier_range_blockable(range))
		mutex_lock(&iv->lock);
	else if (!mutex_trylock(&iv->lock))
		return false;
	mmu_interval_set_seq(notifier, seq);
	xa_lock(&iv->dev.table);
	invlock_interval_zap_locked(iv, range);
	xa_unlock(&iv->dev.table);
	mutex_unlock(&iv->lock);
	return true;
}

static const struct mmu_interval_notifier_ops invlock_any_ops = {
	.invalidate = invlock_any_invalidate,
};

/* Put what was walked into the table, which takes time and may sleep. Locks: iv->lock. */
static int invlock_any_publish(struct interval *iv, const struct hmm_range *range)
{
	int err;

	lockdep_assert_held(&iv->lock);
	might_sleep();
	invlock_device_publishing();
	xa_lock(&iv->dev.table);
	err = invlock_device_publish(&iv->dev, range);
	xa_unlock(&iv->dev.table);
	return err;
}

/* mmu_invlock_any_attempt(), timed for the statistics */
static bool invlock_any_attempt(struct mmu_invlock_any_fault *f, struct mirror_fault_count *count)
{
	u64 before = ktime_get_ns();
	bool again = mmu_invlock_any_attempt(f);

	count->wait_ns += ktime_get_ns() - before;
	count->walks += again;
	return again;
}

static int invlock_any_fault(struct mirror_device *dev, unsigned long start, unsigned long end,
			     bool write, const struct mmu_invlock_budget *budget)
{
	struct interval *iv = container_of(dev, struct interval, dev);
	struct mirror_fault_count count = {};
	struct mmu_invlock_any_fault f;
	struct hmm_range range = {
		.notifier = &iv->notifier,
		.start = start,
		.end = end,
		.default_flags = HMM_PFN_REQ_FAULT | (write ? HMM_PFN_REQ_WRITE : 0),
	};
	int err, publish_err = 0;

	if (start < iv->notifier.interval_tree.start || end - 1 > iv->notifier.interval_tree.last)
		return -EFAULT;
	range.hmm_pfns = kcalloc((end - start) >> PAGE_SHIFT, sizeof(*range.hmm_pfns), GFP_KERNEL);
	if (!range.hmm_pfns)
		return -ENOMEM;
	mmu_invlock_any_init(&f, &range, budget);
	while (invlock_any_attempt(&f, &count)) {
		err = hmm_range_fault(&range);
		invlock_device_walked(dev);
		mutex_lock(&iv->lock);
		if (mmu_invlock_any_commit(&f, err))
			publish_err = invlock_any_publish(iv, &range);
		mutex_unlock(&iv->lock);
	}
	err = mmu_invlock_any_end(&f) ?: publish_err;
	kfree(range.hmm_pfns);
	count.collisions = f.collisions;
	count.slow = f.left.slow;
	invlock_device_faulted(dev, &count, err);
	return err;
}

/* --- both --- */

/* Watch another range. Locks: gate, for writing. Return: 0 or -errno. */
static int invlock_interval_watch(struct interval *iv, unsigned long start, unsigned long len)
{
	int err;

	if (iv->watching)
		mmu_interval_notifier_remove(&iv->notifier);
	xa_lock(&iv->dev.table);
	invlock_device_zap(&iv->dev, 0, ULONG_MAX);
	xa_unlock(&iv->dev.table);
	err = mmu_interval_notifier_insert(&iv->notifier, iv->mm, start, len, iv->ops);
	iv->watching = !err;
	return err;
}

/* Return: 0 if the pages are in the table; -EBUSY for another round; or the error of the walk. */
static int invlock_interval_walk(struct interval *iv, struct hmm_range *range,
				 struct mirror_fault_count *count)
{
	u64 before = ktime_get_ns();
	int err;

	/* this wait has no limit, and no signal ends it */
	range->notifier_seq = mmu_interval_read_begin(&iv->notifier);
	mmap_read_lock(iv->mm);
	count->wait_ns += ktime_get_ns() - before;
	count->walks++;
	err = hmm_range_fault(range);
	mmap_read_unlock(iv->mm);
	invlock_device_walked(&iv->dev);
	if (!err) {
		xa_lock(&iv->dev.table);
		err = mmu_interval_read_retry(&iv->notifier, range->notifier_seq) ?
		      -EBUSY : invlock_device_publish(&iv->dev, range);
		xa_unlock(&iv->dev.table);
	}
	count->collisions += err == -EBUSY;
	return err;
}

static int invlock_interval_fault(struct mirror_device *dev, unsigned long start, unsigned long end,
				  bool write, const struct mmu_invlock_budget *budget)
{
	struct interval *iv = container_of(dev, struct interval, dev);
	u64 deadline = ktime_get_ns() + (budget->time_ns ?: TIMEOUT_NS);
	struct mirror_fault_count count = {};
	struct hmm_range range = {
		.notifier = &iv->notifier,
		.start = start,
		.end = end,
		.default_flags = HMM_PFN_REQ_FAULT | (write ? HMM_PFN_REQ_WRITE : 0),
	};
	int err;

	if (start < iv->notifier.interval_tree.start || end - 1 > iv->notifier.interval_tree.last)
		return -EFAULT;
	range.hmm_pfns = kcalloc((end - start) >> PAGE_SHIFT, sizeof(*range.hmm_pfns), GFP_KERNEL);
	if (!range.hmm_pfns)
		return -ENOMEM;
	if (mmget_not_zero(iv->mm)) {
		do {
			err = invlock_interval_walk(iv, &range, &count);
		} while (err == -EBUSY && ktime_get_ns() < deadline);
		mmput(iv->mm);
	} else {
		err = -EOWNERDEAD;
	}
	kfree(range.hmm_pfns);
	invlock_device_faulted(dev, &count, err);
	return err;
}

static long invlock_interval_access(struct interval *iv, const void __user *arg)
{
	long err;

	if (down_read_killable(&iv->gate))
		return -EINTR;
	err = iv->watching ? invlock_device_access(&iv->dev, NULL, arg) : -ENOMEM;
	up_read(&iv->gate);
	return err;
}

static long invlock_interval_range(struct interval *iv, const void __user *arg)
{
	struct invlock_mirror_pin range;
	long err = invlock_mirror_range_get(arg, 1, U64_MAX, &range);

	if (err)
		return err;
	if (down_write_killable(&iv->gate))
		return -EINTR;
	err = invlock_interval_watch(iv, range.addr, range.len);
	up_write(&iv->gate);
	return err;
}

static long invlock_interval_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct interval *iv = file->private_data;

	if (current->mm != iv->mm)
		return -EPERM;
	switch (request) {
	case INVLOCK_MIRROR_ACCESS:
		return invlock_interval_access(iv, (void __user *)arg);
	case INVLOCK_MIRROR_RANGE:
		return invlock_interval_range(iv, (void __user *)arg);
	case INVLOCK_MIRROR_STATS:
		return invlock_device_stats(&iv->dev, NULL, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static void invlock_interval_free(struct interval *iv)
{
	invlock_device_destroy(&iv->dev);
	mmdrop(iv->mm);
	kfree(iv);
}

static int invlock_interval_open_as(struct inode *inode, struct file *file,
				    const struct mmu_interval_notifier_ops *ops,
				    typeof(invlock_any_fault) *fault)
{
	struct interval *iv;
	int err;

	/* a kernel thread has none */
	if (!current->mm)
		return -EINVAL;
	iv = kzalloc(sizeof(*iv), GFP_KERNEL_ACCOUNT);
	if (!iv)
		return -ENOMEM;
	invlock_device_init(&iv->dev);
	iv->dev.fault = fault;
	iv->ops = ops;
	init_rwsem(&iv->gate);
	mutex_init(&iv->lock);
	mmu_invlock_prime(&iv->lock);
	iv->mm = current->mm;
	mmgrab(iv->mm);
	err = invlock_interval_watch(iv, 0, ULONG_MAX & PAGE_MASK);
	if (err) {
		invlock_interval_free(iv);
		return err;
	}
	file->private_data = iv;
	return nonseekable_open(inode, file);
}

static int invlock_interval_open(struct inode *inode, struct file *file)
{
	return invlock_interval_open_as(inode, file, &invlock_interval_ops,
					invlock_interval_fault);
}

static int invlock_any_open(struct inode *inode, struct file *file)
{
	return invlock_interval_open_as(inode, file, &invlock_any_ops, invlock_any_fault);
}

static int invlock_interval_close(struct inode *inode, struct file *file)
{
	struct interval *iv = file->private_data;

	if (iv->watching)
		mmu_interval_notifier_remove(&iv->notifier);
	invlock_interval_free(iv);
	return 0;
}

static const struct file_operations invlock_interval_fops = {
	.owner = THIS_MODULE,
	.open = invlock_interval_open,
	.release = invlock_interval_close,
	.unlocked_ioctl = invlock_interval_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static const struct file_operations invlock_any_fops = {
	.owner = THIS_MODULE,
	.open = invlock_any_open,
	.release = invlock_interval_close,
	.unlocked_ioctl = invlock_interval_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice invlock_interval_miscdev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "invlock_interval",
	.fops = &invlock_interval_fops,
	.mode = 0600,
};

static struct miscdevice invlock_any_miscdev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "invlock_any",
	.fops = &invlock_any_fops,
	.mode = 0600,
};

int invlock_interval_init(void)
{
	int err = misc_register(&invlock_interval_miscdev);

	if (err)
		return err;
	err = misc_register(&invlock_any_miscdev);
	if (err)
		misc_deregister(&invlock_interval_miscdev);
	return err;
}

void invlock_interval_exit(void)
{
	misc_deregister(&invlock_any_miscdev);
	misc_deregister(&invlock_interval_miscdev);
}
