// SPDX-License-Identifier: GPL-2.0-only
/*
 * A second driver that uses the functions which invlock.ko exports, for the tests. Unlike the
 * mirror it has callbacks of its own, it registers and unregisters its notifier itself, and it
 * can hold each step for as long as a test wants.
 *
 * Lock order: mmap lock, drill->lock.
 */
#include <linux/delay.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "drill.h"
#include "drill_file.h"

/* Wait until the time is over, or until a DRILL_HOLD releases everything. */
static void drill_hold_start(struct drill_file *d, u64 us)
{
	u64 end = ktime_get_ns() + us * NSEC_PER_USEC;

	do {
		fsleep(min_t(u64, us, 1000));
	} while (READ_ONCE(d->hold_us) && ktime_get_ns() < end);
	drill_add(d, &d->held, -1);
}

static int drill_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct drill_file *d = container_of(mn, struct drill_file, inv.notifier);
	u64 hold_us = 0;

	spin_lock(&d->lock);
	mmu_invlock_inv_start(&d->inv, range);
	d->starts++;
	if (!mmu_notifier_range_blockable(range))
		d->atomic_starts++;
	else if (range->start < d->hold_end && d->hold_start < range->end)
		hold_us = d->hold_us;
	d->held += !!hold_us;
	spin_unlock(&d->lock);
	if (hold_us)
		drill_hold_start(d, hold_us);
	return 0;
}

static void drill_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct drill_file *d = container_of(mn, struct drill_file, inv.notifier);

	spin_lock(&d->lock);
	mmu_invlock_inv_end(&d->inv, range);
	spin_unlock(&d->lock);
}

/* Only the release calls this, because start and end are the drill's own. */
static void drill_invalidate(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	struct drill_file *d = container_of(inv, struct drill_file, inv);

	d->dropped += range->event == MMU_NOTIFY_RELEASE && !range->start &&
		      range->end == ULONG_MAX;
}

static const struct mmu_invlock_ops drill_inv_ops = {
	.invalidate = drill_invalidate,
};

static const struct mmu_notifier_ops drill_ops = {
	.invalidate_range_start = drill_start,
	.invalidate_range_end = drill_end,
	.release = mmu_invlock_mm_release,
};

void drill_add(struct drill_file *d, u64 *count, int nr)
{
	spin_lock(&d->lock);
	*count += nr;
	spin_unlock(&d->lock);
}

void drill_hold_fault(struct drill_file *d, u64 us)
{
	u64 end = ktime_get_ns() + us * NSEC_PER_USEC, holds = READ_ONCE(d->holds);

	drill_add(d, &d->held_faults, 1);
	while (us && READ_ONCE(d->registered) && READ_ONCE(d->holds) == holds &&
	       ktime_get_ns() < end)
		fsleep(min_t(u64, us, 1000));
	drill_add(d, &d->held_faults, -1);
}

static struct mmu_notifier_range drill_range(struct drill_file *d, const struct drill *arg)
{
	return (struct mmu_notifier_range){
		.mm = d->mm,
		.start = arg->addr,
		.end = arg->addr + arg->len,
		.event = MMU_NOTIFY_CLEAR,
	};
}

/* Make an invalidation between attempt and commit. It ends there, too, but for DRILL_OVERLAP. */
static void drill_collide(struct drill_file *d, const struct drill *arg)
{
	struct mmu_notifier_range range = drill_range(d, arg), behind = range;

	if (arg->how == DRILL_MOVE)
		range.end -= arg->len / 2;
	if (arg->how == DRILL_TO_THE_END)
		range.end = 0;
	behind.start = range.end;
	behind.end = range.end + arg->len;
	spin_lock(&d->lock);
	mmu_invlock_inv_start(&d->inv, &range);
	if (arg->how == DRILL_SURPLUS_END) {
		mmu_invlock_inv_start(&d->inv, &range);
		mmu_invlock_inv_end(&d->inv, &behind);
	}
	if (arg->how != DRILL_OVERLAP)
		mmu_invlock_inv_end(&d->inv, &range);
	spin_unlock(&d->lock);
}

static void drill_end_overlap(struct drill_file *d, const struct drill *arg)
{
	struct mmu_notifier_range range = drill_range(d, arg);

	spin_lock(&d->lock);
	mmu_invlock_inv_end(&d->inv, &range);
	spin_unlock(&d->lock);
}

static bool drill_walks(const struct drill *arg)
{
	return arg->how == DRILL_WALK || arg->how == DRILL_OVERLAP;
}

/* What a driver does in a round. Return: its result. */
static int drill_walk(struct drill_file *d, const struct drill *arg, struct mmu_invlock_fault *f)
{
	if (arg->how >= DRILL_WALK || arg->how == DRILL_COLLIDE)
		drill_collide(d, arg);
	if (arg->how == DRILL_MOVE)
		f->range.start = arg->addr + arg->len / 2;
	return drill_walks(arg) ? hmm_range_fault(&f->range) : 0;
}

/*
 * A fault that takes as long as the test wants. If it walks the page table, @pfns has room for the
 * range, and is NULL otherwise.
 */
static int drill_fault_into(struct drill_file *d, struct drill *arg, unsigned long *pfns)
{
	struct mmu_invlock_budget budget = { .rounds = arg->rounds, .time_ns = arg->time_ns };
	const struct hmm_range range = {
		.start = arg->addr,
		.end = arg->addr + arg->len,
		.hmm_pfns = pfns,
		.default_flags = arg->flags,
		.pfn_flags_mask = arg->mask,
	};
	u64 holds = READ_ONCE(d->holds);
	struct mmu_invlock_fault f;
	int err;

	arg->rounds = 0;
	drill_add(d, &d->faults, 1);
	mmu_invlock_fault_init_range(&f, &d->inv, &range, &budget);
	while (mmu_invlock_attempt(&f)) {
		arg->rounds++;
		drill_hold_fault(d, arg->hold_us);
		if (arg->how == DRILL_LEAVE)
			break;
		if (arg->how == DRILL_NO_COMMIT)
			continue;
		if (arg->how == DRILL_COLLIDE && READ_ONCE(d->holds) != holds)
			arg->how = 0;
		err = drill_walk(d, arg, &f);
		spin_lock(&d->lock);
		mmu_invlock_commit(&f, err);
		spin_unlock(&d->lock);
		if (arg->how == DRILL_OVERLAP)
			drill_end_overlap(d, arg);
	}
	err = mmu_invlock_fault_end(&f);
	drill_add(d, &d->faults, -1);
	return err;
}

static int drill_fault(struct drill_file *d, struct drill *arg)
{
	unsigned long nr = arg->len >> PAGE_SHIFT, *pfns;
	int err;

	if (arg->how == DRILL_ANY)
		return drill_fault_any(d, arg);
	if (!drill_walks(arg))
		return drill_fault_into(d, arg, NULL);
	pfns = kvmalloc_array(nr, sizeof(*pfns), GFP_KERNEL);
	if (!pfns)
		return -ENOMEM;
	for (unsigned long i = 0; i < nr; i++)
		pfns[i] = arg->pfn;
	err = drill_fault_into(d, arg, pfns);
	arg->pfn = HMM_PFN_FLAGS;
	for (unsigned long i = 0; i < nr; i++)
		arg->pfn &= pfns[i];
	kvfree(pfns);
	return err;
}

static int drill_reclaim_file(const struct drill *arg)
{
	struct reclaim_state state = {};
	struct file *file = fget(arg->addr);
	int err;

	if (!file)
		return -EBADF;
	current->reclaim_state = &state;
	err = vfs_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, arg->len);
	current->reclaim_state = NULL;
	fput(file);
	return err;
}

struct drill_opener {
	struct work_struct work;
	int result;
};

static void drill_open_devices(struct work_struct *work)
{
	static const char *const devices[] = {
		"/dev/invlock", "/dev/invlock_mirror", "/dev/invlock_interval",
	};
	struct drill_opener *opener = container_of(work, struct drill_opener, work);
	struct file *file;

	for (unsigned int i = 0; i < ARRAY_SIZE(devices) && opener->result == -EINVAL; i++) {
		file = filp_open(devices[i], O_RDONLY, 0);
		opener->result = PTR_ERR_OR_ZERO(file);
		if (!IS_ERR(file))
			filp_close(file, NULL);
	}
}

static int drill_open_in_kernel(void)
{
	struct drill_opener opener = { .result = -EINVAL };

	INIT_WORK_ONSTACK(&opener.work, drill_open_devices);
	schedule_work(&opener.work);
	flush_work(&opener.work);
	destroy_work_on_stack(&opener.work);
	return opener.result;
}

/* Locks that take their time to be freed, as if the machine had many CPUs. */
struct drill_late {
	struct mmu_invlock inv;
	spinlock_t lock;
};

static atomic_t drill_nr_late = ATOMIC_INIT(0);

static struct mmu_notifier *drill_late_alloc(struct mm_struct *mm)
{
	struct drill_late *late = kzalloc(sizeof(*late), GFP_KERNEL);

	if (!late)
		return ERR_PTR(-ENOMEM);
	spin_lock_init(&late->lock);
	mmu_invlock_init(&late->inv, &late->lock, NULL);
	atomic_inc(&drill_nr_late);
	return &late->inv.notifier;
}

static void drill_late_free(struct mmu_notifier *mn)
{
	struct drill_late *late = container_of(mn, struct drill_late, inv.notifier);

	mdelay(300);
	mmu_invlock_destroy(&late->inv);
	kfree(late);
	mdelay(300);
	atomic_dec(&drill_nr_late);
}

static const struct mmu_notifier_ops drill_late_ops = {
	.alloc_notifier = drill_late_alloc,
	.free_notifier = drill_late_free,
};

static int drill_make_late(void)
{
	struct mmu_invlock *inv = mmu_invlock_get(&drill_late_ops, current->mm);

	if (IS_ERR(inv))
		return PTR_ERR(inv);
	mmu_invlock_put(inv);
	return 0;
}

static int drill_unregister(struct drill_file *d)
{
	int err = -EALREADY;

	mutex_lock(&d->life);
	if (d->registered) {
		mmu_notifier_unregister(&d->inv.notifier, d->mm);
		WRITE_ONCE(d->registered, false);
		err = 0;
	}
	mutex_unlock(&d->life);
	return err;
}

static void drill_idle_count(struct mmu_notifier *mn)
{
	struct drill_file *d = container_of(mn, struct drill_file, idle);

	spin_lock(&d->lock);
	d->starts++;
	spin_unlock(&d->lock);
}

static int drill_idle_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	drill_idle_count(mn);
	return 0;
}

static void drill_idle_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	drill_idle_count(mn);
}

static const struct mmu_notifier_ops drill_idle_ops = {
	.invalidate_range_start = drill_idle_start,
	.invalidate_range_end = drill_idle_end,
};

/*
 * Register a notifier that only counts, instead of the real one. Every notifier that has to know
 * what is running costs at least as much.
 */
static int drill_idle(struct drill_file *d)
{
	int err = drill_unregister(d);

	if (err)
		return err;
	mutex_lock(&d->life);
	d->idle.ops = &drill_idle_ops;
	err = mmu_notifier_register(&d->idle, d->mm);
	d->idle_registered = !err;
	mutex_unlock(&d->life);
	return err;
}

static bool drill_plain_invalidate(struct mmu_interval_notifier *notifier,
				   const struct mmu_notifier_range *range, unsigned long seq)
{
	mmu_interval_set_seq(notifier, seq);
	return true;
}

static const struct mmu_interval_notifier_ops drill_plain_ops = {
	.invalidate = drill_plain_invalidate,
};

/*
 * Both measurements do the same around the calls to compare: they fill a struct hmm_range and take
 * the mmap lock and the driver's lock. Neither walks the page table. Neither takes a reference to
 * the mm, because it is the mm of the current task.
 */
static void drill_measure_plain(struct drill_file *d, struct mmu_interval_notifier *notifier,
				const struct drill *arg)
{
	struct hmm_range range;
	bool again;

	for (u64 rounds = arg->rounds; rounds--;) {
		range = (struct hmm_range){
			.notifier = notifier,
			.start = arg->addr,
			.end = arg->addr + arg->len,
		};
		/* the compiler must fill range, as for a walk that reads it */
		barrier_data(&range);
		do {
			range.notifier_seq = mmu_interval_read_begin(notifier);
			mmap_read_lock(d->mm);
			barrier_data(&range);
			mmap_read_unlock(d->mm);
			spin_lock(&d->lock);
			again = mmu_interval_read_retry(notifier, range.notifier_seq);
			spin_unlock(&d->lock);
		} while (again);
	}
}

static void drill_measure_invlock(struct drill_file *d, const struct drill *arg)
{
	struct mmu_invlock_fault f;

	for (u64 rounds = arg->rounds; rounds--;) {
		mmu_invlock_fault_init(&f, &d->inv, arg->addr, arg->addr + arg->len, NULL);
		while (mmu_invlock_attempt(&f)) {
			barrier_data(&f.range);
			spin_lock(&d->lock);
			mmu_invlock_commit(&f, 0);
			spin_unlock(&d->lock);
		}
		mmu_invlock_fault_end(&f);
	}
}

static int drill_measure(struct drill_file *d, struct drill *arg)
{
	struct mmu_interval_notifier notifier = {};
	u64 start;
	int err;

	err = mmu_interval_notifier_insert(&notifier, d->mm, arg->addr, arg->len,
					   &drill_plain_ops);
	if (err)
		return err;
	start = ktime_get_ns();
	drill_measure_plain(d, &notifier, arg);
	arg->plain_ns = ktime_get_ns() - start;
	mmu_interval_notifier_remove(&notifier);
	start = ktime_get_ns();
	drill_measure_invlock(d, arg);
	arg->time_ns = ktime_get_ns() - start;
	return 0;
}

static void drill_fill_state(struct drill_file *d, struct drill *arg)
{
	spin_lock(&d->lock);
	arg->held = d->held;
	arg->running = d->inv.running;
	arg->starts = d->starts;
	arg->atomic_starts = d->atomic_starts;
	arg->faults = d->faults;
	arg->held_faults = d->held_faults;
	arg->dead = d->inv.closed == -EOWNERDEAD;
	arg->dropped = d->dropped;
	arg->late = atomic_read(&drill_nr_late);
	spin_unlock(&d->lock);
}

static long drill_ioctl(struct file *file, unsigned int request, unsigned long user)
{
	struct drill_file *d = file->private_data;
	struct drill arg;
	int err = 0;

	if (copy_from_user(&arg, (void __user *)user, sizeof(arg)))
		return -EFAULT;
	switch (request) {
	case DRILL_FAULT:
		err = drill_fault(d, &arg);
		break;
	case DRILL_HOLD:
		spin_lock(&d->lock);
		WRITE_ONCE(d->hold_us, arg.hold_us);
		WRITE_ONCE(d->holds, d->holds + 1);
		d->hold_start = arg.addr;
		d->hold_end = arg.addr + arg.len;
		spin_unlock(&d->lock);
		break;
	case DRILL_UNREGISTER:
		err = drill_unregister(d);
		break;
	case DRILL_STATE:
		break;
	case DRILL_IDLE:
		err = drill_idle(d);
		break;
	case DRILL_MEASURE:
		err = drill_measure(d, &arg);
		break;
	case DRILL_RECLAIM_FILE:
		err = drill_reclaim_file(&arg);
		break;
	case DRILL_OPEN_IN_KERNEL:
		err = drill_open_in_kernel();
		break;
	case DRILL_LATE:
		err = drill_make_late();
		break;
	case DRILL_SYNCHRONIZE:
		mmu_invlock_synchronize(&drill_late_ops);
		break;
	default:
		return -ENOTTY;
	}
	drill_fill_state(d, &arg);
	if (copy_to_user((void __user *)user, &arg, sizeof(arg)))
		return -EFAULT;
	return err;
}

static void drill_free_in_softirq(struct rcu_head *rcu)
{
	struct drill_file *d = container_of(rcu, struct drill_file, rcu);

	mmu_invlock_destroy(&d->inv);
	kfree(d);
}

static void drill_free(struct drill_file *d)
{
	mmdrop(d->mm);
	/* as a driver may whose readers use RCU */
	call_rcu(&d->rcu, drill_free_in_softirq);
}

static int drill_open(struct inode *inode, struct file *file)
{
	struct drill_file *d = kzalloc(sizeof(*d), GFP_KERNEL);
	int err;

	if (!d)
		return -ENOMEM;
	spin_lock_init(&d->lock);
	mutex_init(&d->life);
	mmu_invlock_init(&d->inv, &d->lock, &drill_inv_ops);
	d->mm = current->mm;
	mmgrab(d->mm);
	d->inv.notifier.ops = &drill_ops;
	err = mmu_notifier_register(&d->inv.notifier, d->mm);
	if (err) {
		drill_free(d);
		return err;
	}
	d->registered = true;
	file->private_data = d;
	return nonseekable_open(inode, file);
}

static int drill_close(struct inode *inode, struct file *file)
{
	struct drill_file *d = file->private_data;

	drill_unregister(d);
	if (d->idle_registered)
		mmu_notifier_unregister(&d->idle, d->mm);
	drill_free(d);
	return 0;
}

static const struct file_operations drill_fops = {
	.owner = THIS_MODULE,
	.open = drill_open,
	.release = drill_close,
	.unlocked_ioctl = drill_ioctl,
};

static struct miscdevice drill_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "invlock_drill",
	.fops = &drill_fops,
	.mode = 0600,
};

static int __init drill_init(void)
{
	return misc_register(&drill_device);
}

static void __exit drill_exit(void)
{
	misc_deregister(&drill_device);
	mmu_invlock_synchronize(&drill_late_ops);
	rcu_barrier();
}

module_init(drill_init);
module_exit(drill_exit);

MODULE_DESCRIPTION("A driver that uses invlock.ko, for the tests");
MODULE_LICENSE("GPL");
