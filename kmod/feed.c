// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/invlock: the feed of the process that opened it, mapped read-only.
 *
 * One lock for each mm, whatever the number of open files; it is a driver like any other,
 * with no page table but the words of the lock itself.
 *
 * Lock order: mmap lock, feed->lock.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>
#include <linux/invlock_dev.h>

#include "compat/vm_flags.h"
#include "feed.h"
#include "mmu_invlock.h"

struct feed {
	struct mmu_invlock inv;
	spinlock_t lock;
	u64 kinds;			/* guarded by lock; bits are only ever set */
	wait_queue_head_t changed;
};

/* one open file */
struct feed_file {
	struct feed *feed;
	u64 seen;			/* the sequence at the last read(); any thread's */
};

static const struct mmu_invlock_geometry feed_geometry = {
	.nr_words = INVLOCK_NR_WORDS,
	.nr_events = INVLOCK_NR_EVENTS,
};

/*
 * A section in user space is not known here, so what is not interesting must be so for all
 * of them: by its kind.
 */
static bool feed_invalidate(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	struct feed *feed = container_of(inv, struct feed, inv);
	bool interesting = feed->kinds >> mmu_invlock_kind(range) & 1;

	if (interesting && wq_has_sleeper(&feed->changed))
		wake_up_interruptible(&feed->changed);
	return interesting;
}

static void feed_release_mm(struct mmu_invlock *inv)
{
	wake_up_interruptible(&container_of(inv, struct feed, inv)->changed);
}

static const struct mmu_invlock_ops feed_inv_ops = {
	.invalidate = feed_invalidate,
	.release = feed_release_mm,
};

/* Locks: the mmap lock, for writing */
static struct mmu_notifier *feed_alloc(struct mm_struct *mm)
{
	struct feed *feed = kzalloc(sizeof(*feed), GFP_KERNEL);
	int err;

	if (!feed)
		return ERR_PTR(-ENOMEM);
	spin_lock_init(&feed->lock);
	init_waitqueue_head(&feed->changed);
	feed->kinds = INVLOCK_FEED_PINNED_KINDS;
	err = mmu_invlock_init(&feed->inv, &feed->lock, &feed_inv_ops, &feed_geometry);
	if (err) {
		kfree(feed);
		return ERR_PTR(err);
	}
	return &feed->inv.notifier;
}

static void feed_free(struct mmu_notifier *mn)
{
	struct feed *feed = container_of(mn, struct feed, inv.notifier);

	mmu_invlock_destroy(&feed->inv);
	kfree(feed);
}

static const struct mmu_notifier_ops feed_notifier_ops = {
	MMU_INVLOCK_NOTIFIER_OPS,
	.alloc_notifier = feed_alloc,
	.free_notifier = feed_free,
};

static u64 feed_sequence(const struct feed *feed)
{
	return port_load_acquire(&feed->inv.il.feed->sequence);
}

static bool is_ours(const struct feed *feed)
{
	return current->mm == feed->inv.notifier.mm;
}

static int feed_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct feed_file *ff = file->private_data;

	if (!is_ours(ff->feed))
		return -EPERM;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EACCES;
	/* a forked child has another address space: no copy of this feed for it */
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYWRITE | VM_MAYEXEC);
	return remap_vmalloc_range(vma, ff->feed->inv.il.feed, vma->vm_pgoff);
}

static long feed_see(struct feed *feed, void __user *arg)
{
	struct invlock_feed_see see;

	if (copy_from_user(&see, arg, sizeof(see)))
		return -EFAULT;
	if (see.size != sizeof(see) || see.reserved || see.feed_size ||
	    see.kinds >> INVLOCK_NR_KINDS)
		return -EINVAL;
	spin_lock(&feed->lock);
	feed->kinds |= see.kinds;
	see.kinds = feed->kinds;
	spin_unlock(&feed->lock);
	see.feed_size = feed->inv.il.feed->feed_size;
	return copy_to_user(arg, &see, sizeof(see)) ? -EFAULT : 0;
}

static long feed_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct feed_file *ff = file->private_data;

	if (!is_ours(ff->feed))
		return -EPERM;
	return request == INVLOCK_FEED_SEE ? feed_see(ff->feed, (void __user *)arg) : -ENOTTY;
}

static ssize_t feed_read(struct file *file, char __user *buffer, size_t len, loff_t *offset)
{
	struct feed_file *ff = file->private_data;
	u64 sequence = feed_sequence(ff->feed);

	if (!is_ours(ff->feed))
		return -EPERM;
	if (len != sizeof(sequence))
		return -EINVAL;
	WRITE_ONCE(ff->seen, sequence);
	return copy_to_user(buffer, &sequence, sizeof(sequence)) ? -EFAULT : sizeof(sequence);
}

static __poll_t feed_poll(struct file *file, poll_table *table)
{
	struct feed_file *ff = file->private_data;

	poll_wait(file, &ff->feed->changed, table);
	if (!is_ours(ff->feed))
		return EPOLLERR;
	return feed_sequence(ff->feed) != READ_ONCE(ff->seen) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int feed_open(struct inode *inode, struct file *file)
{
	struct feed_file *ff = kzalloc(sizeof(*ff), GFP_KERNEL);
	struct mmu_invlock *inv;

	if (!ff)
		return -ENOMEM;
	inv = mmu_invlock_get(&feed_notifier_ops, current->mm);
	if (IS_ERR(inv)) {
		kfree(ff);
		return PTR_ERR(inv);
	}
	ff->feed = container_of(inv, struct feed, inv);
	ff->seen = feed_sequence(ff->feed);
	file->private_data = ff;
	return nonseekable_open(inode, file);
}

static int feed_close(struct inode *inode, struct file *file)
{
	struct feed_file *ff = file->private_data;

	mmu_invlock_put(&ff->feed->inv);
	kfree(ff);
	return 0;
}

static const struct file_operations feed_fops = {
	.owner = THIS_MODULE,
	.open = feed_open,
	.release = feed_close,
	.mmap = feed_mmap,
	.read = feed_read,
	.poll = feed_poll,
	.unlocked_ioctl = feed_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice feed_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "invlock",
	.fops = &feed_fops,
	.mode = 0600,
};

int feed_init(void)
{
	return misc_register(&feed_device);
}

void feed_exit(void)
{
	misc_deregister(&feed_device);
}
