// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/invlock gives a process the feed of its own address space, to be mapped read-only.
 *
 * Each mm has one feed, however many files are open. mmu_invlock gives it the life of a notifier.
 * Its callbacks are its own: it makes no fault, and only tells its readers what changes.
 *
 * An invalidation may run in reclaim, for somebody else, and there is no limit to how many wait for
 * an event. So it leaves the wake-up to a worker, and asks for it only after a read() or a poll()
 * that found nothing.
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
#include <linux/workqueue.h>
#include <invlock/dev.h>

#include "core/invalidate.h"
#include "compat/vm_flags.h"
#include "feed.h"
#include "feed_limit.h"
#include "mmu_invlock.h"

struct feed_device {
	struct mmu_invlock inv;
	struct invlock il;		/* written under lock */
	kuid_t owner;			/* the user whose limit counts this feed */
	spinlock_t lock;
	u64 kinds;			/* these make an event; guarded by lock; only grows */
	bool armed;			/* the next event wakes those who wait; guarded by lock */
	wait_queue_head_t changed;
	struct work_struct wake, free;	/* in invlock_feed_queue */
};

/* one open file */
struct feed_file {
	struct feed_device *feed;
	u64 seen;			/* the sequence at the last read(); guarded by feed->lock */
};

static struct workqueue_struct *invlock_feed_queue;

/*
 * The kernel tells fewer kinds apart than a program can. Entries that reclaim clears are a DISCARD,
 * too: a shrinker may truncate a file in reclaim, and that looks the same.
 */
static u32 invlock_feed_kind(const struct mmu_notifier_range *range)
{
	switch (range->event) {
	case MMU_NOTIFY_UNMAP:
		return INVLOCK_KIND_UNMAP;
	case MMU_NOTIFY_CLEAR:
		return INVLOCK_KIND_DISCARD;
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

/*
 * The same as task_pid_vnr(current), but cheaper. A task with an mm still has its pid, and the
 * last number of the pid is the one that the task itself sees.
 */
static u32 invlock_feed_current_tid(void)
{
	const struct pid *pid = task_pid(current);

	return pid->numbers[pid->level].nr;
}

/* Locks: feed->lock. */
static void invlock_feed_wake_armed(struct feed_device *feed)
{
	lockdep_assert_held(&feed->lock);
	if (feed->armed) {
		feed->armed = false;
		queue_work(invlock_feed_queue, &feed->wake);
	}
}

/*
 * The kernel does not know which addresses the readers in user space care about. Only the kind of
 * a change can make it uninteresting, because then it is uninteresting to all of them.
 */
static int invlock_feed_range_start(struct mmu_notifier *mn,
				    const struct mmu_notifier_range *range)
{
	struct feed_device *feed = container_of(mn, struct feed_device, inv.notifier);
	u32 kind = invlock_feed_kind(range);

	spin_lock(&feed->lock);
	if (!(feed->kinds >> kind & 1)) {
		if (unlikely(invlock_words_add(&feed->il, range->start, range->end,
					       INVLOCK_START) >= INVLOCK_RUNNING_LIMIT))
			invlock_close_feed(&feed->il, INVLOCK_FEED_DEGRADED);
	} else {
		invlock_feed_wake_armed(feed);
		invlock_inv_start(&feed->il, range->start, range->end, kind,
				  current->mm == mn->mm ? invlock_feed_current_tid() : 0,
				  ktime_get_ns());
	}
	spin_unlock(&feed->lock);
	return 0;
}

static void invlock_feed_range_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct feed_device *feed = container_of(mn, struct feed_device, inv.notifier);

	spin_lock(&feed->lock);
	if (WARN_ON_ONCE(!invlock_words_add(&feed->il, range->start, range->end, INVLOCK_END)))
		invlock_close_feed(&feed->il, INVLOCK_FEED_DEGRADED);
	spin_unlock(&feed->lock);
}

static void invlock_feed_mm_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct feed_device *feed = container_of(mn, struct feed_device, inv.notifier);

	spin_lock(&feed->lock);
	invlock_feed_wake_armed(feed);
	invlock_close_feed(&feed->il, INVLOCK_FEED_DEAD);
	spin_unlock(&feed->lock);
}

static void invlock_feed_wake(struct work_struct *work)
{
	wake_up_interruptible(&container_of(work, struct feed_device, wake)->changed);
}

/* This is no part of invlock_feed_free(), which must not sleep. */
static void invlock_feed_free_later(struct work_struct *work)
{
	struct feed_device *feed = container_of(work, struct feed_device, free);

	flush_work(&feed->wake);
	invlock_feed_limit_uncharge(feed->owner);
	vfree(feed->il.feed);
	mmu_invlock_destroy(&feed->inv);
	kfree(feed);
}

static int invlock_feed_make(struct invlock *il)
{
	u64 bytes = invlock_feed_bytes(INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS);
	void *mem;
	int err;

	/*
	 * Processes map this memory, so it consists of whole, zeroed pages. If the cgroup is full,
	 * the allocation fails; it must not make the OOM killer run.
	 */
	mem = __vmalloc(PAGE_ALIGN(bytes), GFP_KERNEL_ACCOUNT | __GFP_ZERO |
					   __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
	if (!mem)
		return -ENOMEM;
	err = invlock_feed_format(mem, bytes, INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS,
				  INVLOCK_STRIPE_SHIFT);
	if (!err)
		err = invlock_attach(il, mem, bytes);
	if (err)
		vfree(mem);
	return err;
}

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
	INIT_WORK(&feed->wake, invlock_feed_wake);
	INIT_WORK(&feed->free, invlock_feed_free_later);
	feed->kinds = INVLOCK_FEED_PINNED_KINDS;
	err = invlock_feed_make(&feed->il);
	if (err)
		goto uncharge;
	mmu_invlock_init(&feed->inv, &feed->lock, NULL);
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

	queue_work(invlock_feed_queue, &feed->free);
}

static const struct mmu_notifier_ops invlock_feed_notifier_ops = {
	.invalidate_range_start = invlock_feed_range_start,
	.invalidate_range_end = invlock_feed_range_end,
	.release = invlock_feed_mm_release,
	.alloc_notifier = invlock_feed_alloc,
	.free_notifier = invlock_feed_free,
};

static u64 invlock_feed_sequence(const struct feed_device *feed)
{
	return port_load(&feed->il.feed->sequence);
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
	unsigned long pages = PAGE_ALIGN(feed->il.feed->feed_size) >> PAGE_SHIFT;
	void *from = feed->il.feed;
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

/* Only for pages that the process has discarded: the others are there from the beginning. */
static vm_fault_t invlock_feed_fault(struct vm_fault *vmf)
{
	struct feed_file *ff = vmf->vma->vm_file->private_data;
	void *feed = ff->feed->il.feed;

	/* the mapping is no longer than the feed */
	vmf->page = vmalloc_to_page(feed + (vmf->pgoff << PAGE_SHIFT));
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct invlock_feed_vm_ops = {
	.fault = invlock_feed_fault,
};

static int invlock_feed_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct feed_file *ff = file->private_data;

	if (!invlock_feed_is_ours(ff->feed))
		return -EPERM;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EACCES;
	/* a forked child has another address space, so it must not inherit this feed */
	vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYWRITE | VM_MAYEXEC);
	vma->vm_ops = &invlock_feed_vm_ops;
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
	see.feed_size = feed->il.feed->feed_size;
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
	struct feed_device *feed = ff->feed;
	u64 sequence;

	if (!invlock_feed_is_ours(feed))
		return -EPERM;
	if (len != sizeof(sequence))
		return -EINVAL;
	spin_lock(&feed->lock);
	sequence = invlock_feed_sequence(feed);
	ff->seen = sequence;
	/* an edge-triggered epoll does not call poll() again before it is woken */
	feed->armed = true;
	spin_unlock(&feed->lock);
	return copy_to_user(buffer, &sequence, sizeof(sequence)) ? -EFAULT : sizeof(sequence);
}

static __poll_t invlock_feed_poll(struct file *file, poll_table *table)
{
	struct feed_file *ff = file->private_data;
	struct feed_device *feed = ff->feed;
	bool changed;

	poll_wait(file, &feed->changed, table);
	if (!invlock_feed_is_ours(feed))
		return EPOLLERR;
	/*
	 * An invalidation looks at armed and then raises the sequence, both under this lock. With
	 * the lock held here, it has done neither, and will find armed, or both.
	 */
	spin_lock(&feed->lock);
	changed = invlock_feed_sequence(feed) != ff->seen;
	if (!changed)
		feed->armed = true;
	spin_unlock(&feed->lock);
	return changed ? EPOLLIN | EPOLLRDNORM : 0;
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

int __init invlock_feed_init(void)
{
	int err;

	invlock_feed_limit_init();
	invlock_feed_queue = alloc_workqueue("invlock_feed", WQ_UNBOUND, 0);
	if (!invlock_feed_queue)
		return -ENOMEM;
	err = misc_register(&invlock_feed_miscdev);
	if (err)
		destroy_workqueue(invlock_feed_queue);
	return err;
}

void __exit invlock_feed_exit(void)
{
	misc_deregister(&invlock_feed_miscdev);
	mmu_invlock_synchronize(&invlock_feed_notifier_ops);
	/* the last feed may be gone from the list before its worker returns */
	destroy_workqueue(invlock_feed_queue);
}
