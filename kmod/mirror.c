// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mirror: a software device that accesses the memory of the process that opened it, and
 * faults pages in on demand. It is the example of a driver that uses mmu_invlock, and the tests
 * of mmu_invlock run on it.
 *
 * mirror_device.c contains the device and its page table. This file contains what every driver
 * needs: invlock_mirror_fault() fills the table and invlock_mirror_invalidate() empties it.
 * mirror_interval.c does the same without mmu_invlock.
 *
 * Lock order: mmap lock, dev.table.xa_lock (the driver's lock).
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/xarray.h>
#include <invlock/dev.h>

#include "mirror.h"
#include "mirror_device.h"
#include "mirror_pin.h"
#include "mmu_invlock.h"

struct mirror {
	struct mmu_invlock inv;
	struct mirror_device dev;
};

/* one open file */
struct mirror_file {
	struct mirror *mirror;
	struct mirror_pins pins;
};

static struct mirror *invlock_mirror_of(struct mmu_invlock *inv)
{
	return container_of(inv, struct mirror, inv);
}

/* --- invalidation --- */

static void invlock_mirror_invalidate(struct mmu_invlock *inv,
				      const struct mmu_notifier_range *range)
{
	struct mirror_device *dev = &invlock_mirror_of(inv)->dev;
	/* the table is empty during most invalidations: do not search it then */
	bool found = !xa_empty(&dev->table) &&
		     invlock_device_zap(dev, range->start >> PAGE_SHIFT,
					(range->end - 1) >> PAGE_SHIFT);

	dev->stats.starts++;
	dev->stats.zapped += found;
}

static const struct mmu_invlock_ops invlock_mirror_inv_ops = {
	.invalidate = invlock_mirror_invalidate,
};

/* --- fault --- */

/* mmu_invlock_attempt(), timed for the statistics */
static bool invlock_mirror_attempt(struct mmu_invlock_fault *f, struct mirror_fault_count *count)
{
	u64 before = ktime_get_ns();
	bool again = mmu_invlock_attempt(f);

	count->wait_ns += ktime_get_ns() - before;
	count->walks += again;
	return again;
}

/* Bring translations of [start, end) into the table. */
static int invlock_mirror_fault(struct mirror_device *dev, unsigned long start, unsigned long end,
				bool write, const struct mmu_invlock_budget *budget)
{
	struct mirror *m = container_of(dev, struct mirror, dev);
	struct mirror_fault_count count = {};
	struct mmu_invlock_fault f;
	unsigned long *pfns;
	int err, publish_err = 0;

	pfns = kcalloc((end - start) >> PAGE_SHIFT, sizeof(*pfns), GFP_KERNEL);
	if (!pfns)
		return -ENOMEM;
	mmu_invlock_fault_init(&f, &m->inv, start, end, budget);
	f.range.hmm_pfns = pfns;
	f.range.default_flags = HMM_PFN_REQ_FAULT | (write ? HMM_PFN_REQ_WRITE : 0);

	while (invlock_mirror_attempt(&f, &count)) {
		err = hmm_range_fault(&f.range);
		invlock_device_walked(dev);
		xa_lock(&dev->table);
		if (mmu_invlock_commit(&f, err))
			publish_err = invlock_device_publish(dev, &f.range);
		xa_unlock(&dev->table);
	}
	err = mmu_invlock_fault_end(&f) ?: publish_err;
	kfree(pfns);

	count.collisions = f.collisions;
	count.waits = f.waits;
	count.slow = f.left.slow;
	count.walked_locked = f.walked_locked;
	invlock_device_faulted(dev, &count, err);
	return err;
}

/* --- allocation --- */

/* Locks: the mmap lock, for writing. */
static struct mmu_notifier *invlock_mirror_alloc(struct mm_struct *mm)
{
	struct mirror *m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);

	if (!m)
		return ERR_PTR(-ENOMEM);
	invlock_device_init(&m->dev);
	m->dev.fault = invlock_mirror_fault;
	mmu_invlock_init(&m->inv, &m->dev.table.xa_lock, &invlock_mirror_inv_ops);
	return &m->inv.notifier;
}

static void invlock_mirror_free(struct mmu_notifier *mn)
{
	struct mirror *m = container_of(mn, struct mirror, inv.notifier);

	mmu_invlock_destroy(&m->inv);
	invlock_device_destroy(&m->dev);
	kfree(m);
}

static const struct mmu_notifier_ops invlock_mirror_notifier_ops = {
	MMU_INVLOCK_NOTIFIER_OPS,
	.alloc_notifier = invlock_mirror_alloc,
	.free_notifier = invlock_mirror_free,
};

/* --- the file --- */

static long invlock_mirror_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct mirror_file *mf = file->private_data;
	struct mirror *m = mf->mirror;

	if (current->mm != m->inv.notifier.mm)
		return -EPERM;
	switch (request) {
	case INVLOCK_MIRROR_ACCESS:
		return invlock_device_access(&m->dev, &mf->pins, (void __user *)arg);
	case INVLOCK_MIRROR_PIN:
		return invlock_mirror_pins_set(&mf->pins, (void __user *)arg);
	case INVLOCK_MIRROR_STATS:
		return invlock_device_stats(&m->dev, &m->inv.running, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int invlock_mirror_open(struct inode *inode, struct file *file)
{
	struct mirror_file *mf;
	struct mmu_invlock *inv;

	mf = kzalloc(sizeof(*mf), GFP_KERNEL_ACCOUNT);
	if (!mf)
		return -ENOMEM;
	inv = mmu_invlock_get(&invlock_mirror_notifier_ops, current->mm);
	if (IS_ERR(inv)) {
		kfree(mf);
		return PTR_ERR(inv);
	}
	mf->mirror = invlock_mirror_of(inv);
	invlock_mirror_pins_init(&mf->pins, current->mm);
	file->private_data = mf;
	return nonseekable_open(inode, file);
}

static int invlock_mirror_close(struct inode *inode, struct file *file)
{
	struct mirror_file *mf = file->private_data;

	invlock_mirror_pins_destroy(&mf->pins);
	mmu_invlock_put(&mf->mirror->inv);
	kfree(mf);
	return 0;
}

static const struct file_operations invlock_mirror_fops = {
	.owner = THIS_MODULE,
	.open = invlock_mirror_open,
	.release = invlock_mirror_close,
	.unlocked_ioctl = invlock_mirror_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* Only root may open this device, which serves as an example and for tests. */
static struct miscdevice invlock_mirror_miscdev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "invlock_mirror",
	.fops = &invlock_mirror_fops,
	.mode = 0600,
};

int invlock_mirror_init(void)
{
	return misc_register(&invlock_mirror_miscdev);
}

void invlock_mirror_exit(void)
{
	misc_deregister(&invlock_mirror_miscdev);
	mmu_invlock_synchronize(&invlock_mirror_notifier_ops);
}
