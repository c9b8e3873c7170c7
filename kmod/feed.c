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
#include <invlock/dev.h>

#include "bad.h"
#include "compat/vm_flags.h"
#include "feed.h"
#include "feed_limit.h"
#include "mmu_invlock.h"

struct feed {
	struct mmu_invlock inv;
	kuid_t owner;			/* whose feed_limit counts it */
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

	/* no barrier: who polls is in the queue before it takes the lock that is held here */
	if (interesting && waitqueue_active(&feed->changed)) {
		wake_up_interruptible(&feed->changed);
		for (u32 n = 0; bad_is(BAD_WAKE) && n < 100000; n++)
			cpu_relax();
	}
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
	struct feed *feed = kzalloc(sizeof(*feed), GFP_KERNEL_ACCOUNT);
	int err;

	if (!feed)
		return ERR_PTR(-ENOMEM);
	feed->owner = current_uid();
	err = feed_limit_charge(feed->owner);
	if (err)
		goto free_feed;
	spin_lock_init(&feed->lock);
	init_waitqueue_head(&feed->changed);
	feed->kinds = INVLOCK_FEED_PINNED_KINDS;
	err = mmu_invlock_init(&feed->inv, &feed->lock, &feed_inv_ops, &feed_geometry);
	if (err)
		goto uncharge;
	return &feed->inv.notifier;

uncharge:
	feed_limit_uncharge(feed->owner);
free_feed:
	if (!bad_is(BAD_LEAK))
		kfree(feed);
	return ERR_PTR(err);
}

static void feed_free(struct mmu_notifier *mn)
{
	struct feed *feed = container_of(mn, struct feed, inv.notifier);

	mmu_invlock_destroy(&feed->inv);
	feed_limit_uncharge(feed->owner);
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

/* page by page: the memory is charged to a cgroup, and vmalloc's own way knows no such memory */
static int map_feed(const struct feed *feed, struct vm_area_struct *vma)
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

static int feed_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct feed_file *ff = file->private_data;

	if (!is_ours(ff->feed))
		return -EPERM;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EACCES;
	/* a forked child has another address space: no copy of this feed for it */
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYWRITE | VM_MAYEXEC);
	return map_feed(ff->feed, vma);
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
	struct feed *feed = ff->feed;
	u64 sequence;

	poll_wait(file, &feed->changed, table);
	if (!is_ours(feed))
		return EPOLLERR;
	if (bad_is(BAD_WAKE))
		return feed_sequence(feed) != READ_ONCE(ff->seen) ? EPOLLIN | EPOLLRDNORM : 0;
	/* who wakes us does so under this lock, and counts the event before it drops it */
	spin_lock(&feed->lock);
	sequence = feed_sequence(feed);
	spin_unlock(&feed->lock);
	return sequence != READ_ONCE(ff->seen) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int feed_open(struct inode *inode, struct file *file)
{
	struct feed_file *ff = kzalloc(sizeof(*ff), GFP_KERNEL_ACCOUNT);
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

/* for everybody: it tells a process about itself, and what it costs is limited and charged */
static struct miscdevice feed_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "invlock",
	.fops = &feed_fops,
	.mode = 0444,
};

int feed_init(void)
{
	return misc_register(&feed_device);
}

void feed_exit(void)
{
	misc_deregister(&feed_device);
}
