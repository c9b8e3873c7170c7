// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mirror: a software device that sees the memory of the process that opened it, on
 * demand. The example of a driver on mmu_invlock, and the bed on which it is tested.
 *
 * The device and its page table are mirror_device.c. Here is what any driver needs: the
 * table is filled by mirror_fault() and emptied by mirror_invalidate(). mirror_interval.c is
 * the same without mmu_invlock.
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

#include "bad.h"
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

static struct mirror *mirror_of(struct mmu_invlock *inv)
{
	return container_of(inv, struct mirror, inv);
}

/* --- invalidation --- */

static bool mirror_invalidate(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	struct mirror_device *dev = &mirror_of(inv)->dev;
	/* most invalidations are none of the device's business: no more than needs be for them */
	bool found = !xa_empty(&dev->table) &&
		     mirror_device_zap(dev, range->start >> PAGE_SHIFT,
				       (range->end - 1) >> PAGE_SHIFT);

	if (bad_is(BAD_ALLOC))
		kfree(kmalloc(64, GFP_KERNEL));
	dev->stats.starts++;
	dev->stats.zapped += found;
	return found;
}

static void mirror_release_mm(struct mmu_invlock *inv)
{
	mirror_device_zap(&mirror_of(inv)->dev, 0, ULONG_MAX);
}

static const struct mmu_invlock_ops mirror_inv_ops = {
	.invalidate = mirror_invalidate,
	.release = mirror_release_mm,
};

/* --- fault --- */

/* the head, timed for the statistics */
static bool attempt(struct mmu_invlock_fault *f, struct mirror_fault_count *count)
{
	u64 before = ktime_get_ns();
	bool again = mmu_invlock_attempt(f);

	count->wait_ns += ktime_get_ns() - before;
	count->walks += again;
	return again;
}

/* bring [start, end) into the table */
static int mirror_fault(struct mirror_device *dev, unsigned long start, unsigned long end,
			bool write, const struct invlock_budget *budget)
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

	while (attempt(&f, &count)) {
		err = hmm_range_fault(&f.range);
		mirror_device_walked(dev);
		if (bad_is(BAD_FREE))
			kfree(m);
		for (u32 n = 0; bad_is(BAD_RACE) && n < 100000; n++) {
			dev->stats.starts++;
			cpu_relax();
		}
		xa_lock(&dev->table);
		if (mmu_invlock_commit(&f, err))
			publish_err = mirror_device_publish(dev, &f.range);
		xa_unlock(&dev->table);
	}
	err = mmu_invlock_fault_end(&f) ?: publish_err;
	kfree(pfns);

	count.collisions = f.collisions;
	count.waits = f.waits;
	count.slow = f.slow;
	count.walked_locked = f.walked_locked;
	mirror_device_faulted(dev, &count, err);
	return err;
}

/* --- life --- */

/* Locks: the mmap lock, for writing */
static struct mmu_notifier *mirror_alloc(struct mm_struct *mm)
{
	struct mirror *m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);
	int err;

	if (!m)
		return ERR_PTR(-ENOMEM);
	mirror_device_init(&m->dev);
	m->dev.fault = mirror_fault;
	err = mmu_invlock_init(&m->inv, &m->dev.table.xa_lock, &mirror_inv_ops, NULL);
	if (err) {
		kfree(m);
		return ERR_PTR(err);
	}
	return &m->inv.notifier;
}

static void mirror_free(struct mmu_notifier *mn)
{
	struct mirror *m = container_of(mn, struct mirror, inv.notifier);

	mmu_invlock_destroy(&m->inv);
	mirror_device_destroy(&m->dev);
	kfree(m);
}

static const struct mmu_notifier_ops mirror_notifier_ops = {
	MMU_INVLOCK_NOTIFIER_OPS,
	.alloc_notifier = mirror_alloc,
	.free_notifier = mirror_free,
};

/* --- the file --- */

static long mirror_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct mirror_file *mf = file->private_data;
	struct mirror *m = mf->mirror;

	if (current->mm != m->inv.notifier.mm)
		return -EPERM;
	switch (request) {
	case INVLOCK_MIRROR_ACCESS:
		return mirror_device_access(&m->dev, &mf->pins, (void __user *)arg);
	case INVLOCK_MIRROR_PIN:
		return mirror_pins_set(&mf->pins, (void __user *)arg);
	case INVLOCK_MIRROR_STATS:
		return mirror_device_stats(&m->dev, &m->inv.running, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int mirror_open(struct inode *inode, struct file *file)
{
	struct mirror_file *mf;
	struct mmu_invlock *inv;

	mf = kzalloc(sizeof(*mf), GFP_KERNEL_ACCOUNT);
	if (!mf)
		return -ENOMEM;
	inv = mmu_invlock_get(&mirror_notifier_ops, current->mm);
	if (IS_ERR(inv)) {
		kfree(mf);
		return PTR_ERR(inv);
	}
	mf->mirror = mirror_of(inv);
	mirror_pins_init(&mf->pins, current->mm);
	file->private_data = mf;
	return nonseekable_open(inode, file);
}

static int mirror_close(struct inode *inode, struct file *file)
{
	struct mirror_file *mf = file->private_data;

	mirror_pins_destroy(&mf->pins);
	mmu_invlock_put(&mf->mirror->inv);
	kfree(mf);
	return 0;
}

static const struct file_operations mirror_fops = {
	.owner = THIS_MODULE,
	.open = mirror_open,
	.release = mirror_close,
	.unlocked_ioctl = mirror_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* for root: a device in software is an example and a test bed, and of no use to anyone else */
static struct miscdevice mirror_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "invlock_mirror",
	.fops = &mirror_fops,
	.mode = 0600,
};

int mirror_init(void)
{
	return misc_register(&mirror_device);
}

void mirror_exit(void)
{
	misc_deregister(&mirror_device);
}
