// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/invlock gives a process the feed of its own address space, to be mapped read-only.
 *
 * Each mm has one lock, however many files are open. To mmu_invlock, this file is a driver
 * like any other, except that it has no page table to invalidate: it keeps only the feed.
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
#include <invlock/dev.h>

#include "compat/vm_flags.h"
#include "feed.h"
#include "feed_limit.h"
#include "mmu_invlock.h"

struct feed_device {
	struct mmu_invlock inv;
	kuid_t owner;			/* the user whose limit counts this feed */
	spinlock_t lock;
	u64 kinds;			/* these make an event; guarded by lock; only grows */
	wait_queue_head_t changed;
};

/* one open file */
struct feed_file {
	struct feed_device *feed;
	u64 seen;			/* the sequence at the last read(); atomic */
};

static const struct mmu_invlock_geometry invlock_feed_geometry = {
	.nr_words = INVLOCK_NR_WORDS,
	.nr_events = INVLOCK_NR_EVENTS,
};

/*
 * The kernel does not know which addresses the readers in user space care about. Only the kind of
 * a change can make it uninteresting, because then it is uninteresting to all of them.
 */
static bool invlock_feed_invalidate(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	struct feed_device *feed = container_of(inv, struct feed_device, inv);
	bool interesting = feed->kinds >> mmu_invlock_kind(range) & 1;

	/* needs no barrier: a poller queues itself before it takes the lock that is held here */
	if (interesting && waitqueue_active(&feed->changed))
		wake_up_interruptible(&feed->changed);
	return interesting;
}

static void invlock_feed_release_mm(struct mmu_invlock *inv)
{
	wake_up_interruptible(&container_of(inv, struct feed_device, inv)->changed);
}

static const struct mmu_invlock_ops invlock_feed_inv_ops = {
	.invalidate = invlock_feed_invalidate,
	.release = invlock_feed_release_mm,
};

/* Locks: the mmap lock, for writing. */
static struct mmu_notifier *invlock_feed_alloc(struct mm_struct *mm)
{
	struct feed_device *feed = kzalloc(sizeof(*feed), GFP_KERNEL_ACCOUNT);
	int err;

	if (!feed)
		return ERR_PTR(-ENOMEM);
	feed->owner = current_uid();
	err = invlock_feed_limit_charge(feed->owner);
	if (err)
		goto free_feed;
	spin_lock_init(&feed->lock);
	init_waitqueue_head(&feed->changed);
	feed->kinds = INVLOCK_FEED_PINNED_KINDS;
	err = mmu_invlock_init(&feed->inv, &feed->lock, &invlock_feed_inv_ops,
			       &invlock_feed_geometry);
	if (err)
		goto uncharge;
	return &feed->inv.notifier;

uncharge:
	invlock_feed_limit_uncharge(feed->owner);
free_feed:
	kfree(feed);
	return ERR_PTR(err);
}

static void invlock_feed_free(struct mmu_notifier *mn)
{
	struct feed_device *feed = container_of(mn, struct feed_device, inv.notifier);

	mmu_invlock_destroy(&feed->inv);
	invlock_feed_limit_uncharge(feed->owner);
	kfree(feed);
}

static const struct mmu_notifier_ops invlock_feed_notifier_ops = {
	MMU_INVLOCK_NOTIFIER_OPS,
	.alloc_notifier = invlock_feed_alloc,
	.free_notifier = invlock_feed_free,
};

static u64 invlock_feed_sequence(const struct feed_device *feed)
{
	return port_load_acquire(&feed->inv.il.feed->sequence);
}

static bool invlock_feed_is_ours(const struct feed_device *feed)
{
	return current->mm == feed->inv.notifier.mm;
}

/*
 * Insert the pages one by one: remap_vmalloc_range() wants memory from vmalloc_user(), which does
 * not charge it to the cgroup.
 */
static int invlock_feed_insert_pages(const struct feed_device *feed, struct vm_area_struct *vma)
{
	unsigned long pages = PAGE_ALIGN(feed->inv.il.feed->feed_size) >> PAGE_SHIFT;
	void *from = feed->inv.il.feed;
	int err = 0;

	if (vma->vm_pgoff >= pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	from += vma->vm_pgoff << PAGE_SHIFT;
	for (unsigned long addr = vma->vm_start; addr < vma->vm_end && !err; addr += PAGE_SIZE) {
		err = vm_insert_page(vma, addr, vmalloc_to_page(from));
		from += PAGE_SIZE;
	}
	return err;
}

static int invlock_feed_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct feed_file *ff = file->private_data;

	if (!invlock_feed_is_ours(ff->feed))
		return -EPERM;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EACCES;
	/* a forked child has another address space, so it must not inherit this feed */
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYWRITE | VM_MAYEXEC);
	return invlock_feed_insert_pages(ff->feed, vma);
}

static long invlock_feed_see_kinds(struct feed_device *feed, void __user *arg)
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

static long invlock_feed_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct feed_file *ff = file->private_data;

	if (!invlock_feed_is_ours(ff->feed))
		return -EPERM;
	if (request != INVLOCK_FEED_SEE)
		return -ENOTTY;
	return invlock_feed_see_kinds(ff->feed, (void __user *)arg);
}

static ssize_t invlock_feed_read(struct file *file, char __user *buffer, size_t len, loff_t *offset)
{
	struct feed_file *ff = file->private_data;
	u64 sequence = invlock_feed_sequence(ff->feed);

	if (!invlock_feed_is_ours(ff->feed))
		return -EPERM;
	if (len != sizeof(sequence))
		return -EINVAL;
	WRITE_ONCE(ff->seen, sequence);
	return copy_to_user(buffer, &sequence, sizeof(sequence)) ? -EFAULT : sizeof(sequence);
}

static __poll_t invlock_feed_poll(struct file *file, poll_table *table)
{
	struct feed_file *ff = file->private_data;
	struct feed_device *feed = ff->feed;
	u64 sequence;

	poll_wait(file, &feed->changed, table);
	if (!invlock_feed_is_ours(feed))
		return EPOLLERR;
	/*
	 * An invalidation wakes the queue and then raises the sequence, both under this lock.
	 * With the lock held here, it has done both or neither.
	 */
	spin_lock(&feed->lock);
	sequence = invlock_feed_sequence(feed);
	spin_unlock(&feed->lock);
	return sequence != READ_ONCE(ff->seen) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int invlock_feed_open(struct inode *inode, struct file *file)
{
	struct feed_file *ff = kzalloc(sizeof(*ff), GFP_KERNEL_ACCOUNT);
	struct mmu_invlock *inv;

	if (!ff)
		return -ENOMEM;
	inv = mmu_invlock_get(&invlock_feed_notifier_ops, current->mm);
	if (IS_ERR(inv)) {
		kfree(ff);
		return PTR_ERR(inv);
	}
	ff->feed = container_of(inv, struct feed_device, inv);
	ff->seen = invlock_feed_sequence(ff->feed);
	file->private_data = ff;
	return nonseekable_open(inode, file);
}

static int invlock_feed_close(struct inode *inode, struct file *file)
{
	struct feed_file *ff = file->private_data;

	mmu_invlock_put(&ff->feed->inv);
	kfree(ff);
	return 0;
}

static const struct file_operations invlock_feed_fops = {
	.owner = THIS_MODULE,
	.open = invlock_feed_open,
	.release = invlock_feed_close,
	.mmap = invlock_feed_mmap,
	.read = invlock_feed_read,
	.poll = invlock_feed_poll,
	.unlocked_ioctl = invlock_feed_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/*
 * Every user may open this device: a process learns only about itself, the number of feeds is
 * limited for each user, and their memory is charged to the cgroup.
 */
static struct miscdevice invlock_feed_miscdev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "invlock",
	.fops = &invlock_feed_fops,
	.mode = 0444,
};

int invlock_feed_init(void)
{
	return misc_register(&invlock_feed_miscdev);
}

void invlock_feed_exit(void)
{
	misc_deregister(&invlock_feed_miscdev);
}
