// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mirror: a software device with a page table of its own. The example of a driver on
 * mmu_invlock, and the bed on which it is tested.
 *
 * The device's page table is an xarray: page number to (pfn, may write). It is filled by
 * mirror_fault(), emptied by mirror_invalidate(), and used by transfer_page(), which stands
 * for the device: it knows this table and nothing else. No page is pinned: while a
 * translation is in the table and the lock is held, the page cannot go away, because what
 * takes it away has to pass mirror_invalidate() first.
 *
 * Lock order: mmap lock, table.xa_lock (the driver's lock).
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>
#include <linux/invlock_dev.h>

#include "bad.h"
#include "mirror.h"
#include "mirror_pin.h"
#include "mmu_invlock.h"

/* pages that one fault brings in at most */
#define FAULT_PAGES	256

struct mirror {
	struct mmu_invlock inv;
	struct xarray table;			/* guarded by its own xa_lock */
	struct invlock_mirror_stats stats;	/* the same */
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

/* --- the table: under its lock --- */

static void *make_entry(unsigned long hmm_pfn)
{
	unsigned long pfn = page_to_pfn(hmm_pfn_to_page(hmm_pfn));

	return xa_mk_value(pfn << 1 | !!(hmm_pfn & HMM_PFN_WRITE));
}

static bool entry_writable(void *entry)
{
	return xa_to_value(entry) & 1;
}

static struct page *entry_page(void *entry)
{
	return pfn_to_page(xa_to_value(entry) >> 1);
}

/* forget [first, last]. Return: was there anything? */
static bool zap(struct mirror *m, unsigned long first, unsigned long last)
{
	XA_STATE(xas, &m->table, first);
	bool found = false;
	void *entry;

	xas_for_each(&xas, entry, last) {
		xas_store(&xas, NULL);
		m->stats.entries--;
		found = true;
	}
	return found;
}

static int publish(struct mirror *m, const struct hmm_range *range)
{
	unsigned long index = range->start >> PAGE_SHIFT;
	unsigned long nr = (range->end - range->start) >> PAGE_SHIFT;
	void *old;

	for (unsigned long i = 0; i < nr; i++) {
		/* GFP_NOWAIT: under this lock nothing may wait for reclaim, which needs it */
		old = __xa_store(&m->table, index + i, make_entry(range->hmm_pfns[i]),
				 GFP_NOWAIT | __GFP_NOWARN);
		if (xa_is_err(old))
			return xa_err(old);
		m->stats.entries += !old;
	}
	return 0;
}

/* --- invalidation --- */

static bool mirror_invalidate(struct mmu_invlock *inv, const struct mmu_notifier_range *range)
{
	struct mirror *m = mirror_of(inv);
	bool found = zap(m, range->start >> PAGE_SHIFT, (range->end - 1) >> PAGE_SHIFT);

	if (bad_is(BAD_ALLOC))
		kfree(kmalloc(64, GFP_KERNEL));
	m->stats.starts++;
	m->stats.zapped += found;
	return found;
}

static void mirror_release_mm(struct mmu_invlock *inv)
{
	zap(mirror_of(inv), 0, ULONG_MAX);
}

static const struct mmu_invlock_ops mirror_inv_ops = {
	.invalidate = mirror_invalidate,
	.release = mirror_release_mm,
};

/* Locks: the mmap lock, for writing */
static struct mmu_notifier *mirror_alloc(struct mm_struct *mm)
{
	struct mirror *m = kzalloc(sizeof(*m), GFP_KERNEL);
	int err;

	if (!m)
		return ERR_PTR(-ENOMEM);
	xa_init(&m->table);
	err = mmu_invlock_init(&m->inv, &m->table.xa_lock, &mirror_inv_ops, NULL);
	if (err) {
		kfree(m);
		return ERR_PTR(err);
	}
	if (bad_is(BAD_UNCHECKED))
		m->inv.il.check = INVLOCK_CHECK_NONE;
	return &m->inv.notifier;
}

static void mirror_free(struct mmu_notifier *mn)
{
	struct mirror *m = container_of(mn, struct mirror, inv.notifier);

	mmu_invlock_destroy(&m->inv);
	xa_destroy(&m->table);
	kfree(m);
}

static const struct mmu_notifier_ops mirror_notifier_ops = {
	MMU_INVLOCK_NOTIFIER_OPS,
	.alloc_notifier = mirror_alloc,
	.free_notifier = mirror_free,
};

/* --- fault --- */

static void count_walk(struct mirror *m)
{
	xa_lock(&m->table);
	m->stats.walks++;
	xa_unlock(&m->table);
}

static void count_fault(struct mirror *m, const struct mmu_invlock_fault *f, int err)
{
	xa_lock(&m->table);
	m->stats.faults++;
	m->stats.collisions += f->collisions;
	m->stats.waits += f->waits;
	m->stats.slow += f->slow;
	m->stats.locked_walks += f->walked_locked;
	m->stats.failed += !!err;
	xa_unlock(&m->table);
}

/* bring [start, end) into the table */
static int mirror_fault(struct mirror *m, unsigned long start, unsigned long end, bool write,
			const struct invlock_budget *budget)
{
	struct mmu_invlock_fault f;
	unsigned long *pfns;
	int err, publish_err = 0;

	pfns = kcalloc((end - start) >> PAGE_SHIFT, sizeof(*pfns), GFP_KERNEL);
	if (!pfns)
		return -ENOMEM;
	mmu_invlock_fault_init(&f, &m->inv, start, end, budget);
	f.range.hmm_pfns = pfns;
	f.range.default_flags = HMM_PFN_REQ_FAULT | (write ? HMM_PFN_REQ_WRITE : 0);

	while (mmu_invlock_attempt(&f)) {
		err = hmm_range_fault(&f.range);
		count_walk(m);
		if (mirror_delay_us)
			fsleep(mirror_delay_us);
		xa_lock(&m->table);
		if (mmu_invlock_commit(&f, err))
			publish_err = publish(m, &f.range);
		xa_unlock(&m->table);
	}
	err = mmu_invlock_fault_end(&f) ?: publish_err;
	count_fault(m, &f, err);
	kfree(pfns);
	return err;
}

/* --- the device --- */

static void move_bytes(void *memory, void *buffer, size_t len, u32 op)
{
	switch (op) {
	case INVLOCK_MIRROR_READ:
		memcpy(buffer, memory, len);
		break;
	case INVLOCK_MIRROR_WRITE:
		memcpy(memory, buffer, len);
		break;
	case INVLOCK_MIRROR_ADD:
		*(s64 *)buffer = atomic64_fetch_add(*(s64 *)buffer, memory);
		break;
	}
}

/* through the device's table alone. Return: false = there is no translation for this */
static bool transfer_page(struct mirror *m, u64 addr, void *buffer, size_t len, u32 op)
{
	void *entry, *memory;
	bool good;

	xa_lock(&m->table);
	entry = xa_load(&m->table, addr >> PAGE_SHIFT);
	good = entry && (op == INVLOCK_MIRROR_READ || entry_writable(entry));
	if (good) {
		memory = kmap_local_page(entry_page(entry));
		move_bytes(memory + offset_in_page(addr), buffer, len, op);
		kunmap_local(memory);
	}
	xa_unlock(&m->table);
	return good;
}

static int transfer_mirrored(struct mirror *m, const struct invlock_mirror_access *access,
			     u64 addr, void *buffer, size_t len)
{
	struct invlock_budget budget = { .rounds = access->rounds, .time_ns = access->time_ns };
	u64 start = addr & PAGE_MASK;
	u64 end = min_t(u64, PAGE_ALIGN(access->addr + access->len),
			start + FAULT_PAGES * PAGE_SIZE);
	int err;

	/* a translation may go between the fault and its use: then once more */
	while (!transfer_page(m, addr, buffer, len, access->op)) {
		err = mirror_fault(m, start, end, access->op != INVLOCK_MIRROR_READ, &budget);
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}

static int transfer(struct mirror_file *mf, const struct invlock_mirror_access *access,
		    void *bounce)
{
	u64 addr = access->addr, end = addr + access->len;
	char __user *user = u64_to_user_ptr(access->buffer);
	size_t len;
	int err;

	for (; addr < end; addr += len, user += len) {
		len = min_t(u64, end - addr, PAGE_SIZE - offset_in_page(addr));
		if (access->op != INVLOCK_MIRROR_READ && copy_from_user(bounce, user, len))
			return -EFAULT;
		if (access->flags & INVLOCK_MIRROR_PINNED)
			err = mirror_pins_read(&mf->pins, addr, bounce, len);
		else
			err = transfer_mirrored(mf->mirror, access, addr, bounce, len);
		if (err)
			return err;
		if (access->op != INVLOCK_MIRROR_WRITE && copy_to_user(user, bounce, len))
			return -EFAULT;
	}
	return 0;
}

static bool access_ok_for_us(const struct invlock_mirror_access *a)
{
	if (a->size != sizeof(*a) || a->reserved || a->flags & ~INVLOCK_MIRROR_PINNED)
		return false;
	if (a->op > INVLOCK_MIRROR_ADD || (a->flags && a->op != INVLOCK_MIRROR_READ))
		return false;
	if (a->op == INVLOCK_MIRROR_ADD && (a->len != sizeof(u64) || a->addr % sizeof(u64)))
		return false;
	return a->len && a->len <= INVLOCK_MIRROR_MAX_LEN && a->addr + a->len > a->addr;
}

static long mirror_access(struct mirror_file *mf, const void __user *arg)
{
	struct invlock_mirror_access access;
	struct mirror *m = mf->mirror;
	void *bounce;
	long err;

	if (copy_from_user(&access, arg, sizeof(access)))
		return -EFAULT;
	if (!access_ok_for_us(&access))
		return -EINVAL;
	if (access.addr + access.len > TASK_SIZE)
		return -EFAULT;
	bounce = (void *)__get_free_page(GFP_KERNEL);
	if (!bounce)
		return -ENOMEM;
	xa_lock(&m->table);
	m->stats.accesses++;
	xa_unlock(&m->table);
	err = transfer(mf, &access, bounce);
	free_page((unsigned long)bounce);
	return err;
}

static long mirror_stats(struct mirror *m, void __user *arg)
{
	struct invlock_mirror_stats stats;
	u32 size;

	if (get_user(size, (u32 __user *)arg))
		return -EFAULT;
	if (size != sizeof(stats))
		return -EINVAL;
	xa_lock(&m->table);
	stats = m->stats;
	stats.running = m->inv.running;
	xa_unlock(&m->table);
	stats.size = size;
	return copy_to_user(arg, &stats, sizeof(stats)) ? -EFAULT : 0;
}

static long mirror_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct mirror_file *mf = file->private_data;

	if (current->mm != mf->mirror->inv.notifier.mm)
		return -EPERM;
	switch (request) {
	case INVLOCK_MIRROR_ACCESS:
		return mirror_access(mf, (void __user *)arg);
	case INVLOCK_MIRROR_PIN:
		return mirror_pins_set(&mf->pins, (void __user *)arg);
	case INVLOCK_MIRROR_STATS:
		return mirror_stats(mf->mirror, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int mirror_open(struct inode *inode, struct file *file)
{
	struct mirror_file *mf;
	struct mmu_invlock *inv;

	mf = kzalloc(sizeof(*mf), GFP_KERNEL);
	if (!mf)
		return -ENOMEM;
	inv = mmu_invlock_get(&mirror_notifier_ops, current->mm);
	if (IS_ERR(inv)) {
		kfree(mf);
		return PTR_ERR(inv);
	}
	mf->mirror = mirror_of(inv);
	mirror_pins_init(&mf->pins);
	file->private_data = mf;
	return nonseekable_open(inode, file);
}

static int mirror_close(struct inode *inode, struct file *file)
{
	struct mirror_file *mf = file->private_data;

	mirror_pins_drop(&mf->pins);
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
