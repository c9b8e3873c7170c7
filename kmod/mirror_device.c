// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lock order: mmap lock, table.xa_lock, then the locks that folio_mark_dirty() takes, as under the
 * lock of a page table. Under table.xa_lock nothing waits, and no allocation may reclaim memory.
 */
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "mirror.h"
#include "mirror_device.h"

/* the most pages that one fault brings in */
#define FAULT_PAGES	256

void invlock_device_init(struct mirror_device *dev)
{
	/* the nodes are charged to the cgroup of the task that makes the table grow */
	xa_init_flags(&dev->table, XA_FLAGS_ACCOUNT);
}

void invlock_device_destroy(struct mirror_device *dev)
{
	xa_destroy(&dev->table);
}

long invlock_mirror_range_get(const void __user *arg, u64 least, u64 most,
			      struct invlock_mirror_pin *ret_range)
{
	struct invlock_mirror_pin range;

	if (copy_from_user(&range, arg, sizeof(range)))
		return -EFAULT;
	if (range.size != sizeof(range) || range.reserved ||
	    (range.addr | range.len) & ~PAGE_MASK || range.len < least || range.len > most ||
	    range.addr + range.len < range.addr)
		return -EINVAL;
	/* the error for such a range differs between kernels, so do not pass the range on */
	if (range.addr + range.len > TASK_SIZE)
		return -EFAULT;
	*ret_range = range;
	return 0;
}

/* --- the table --- */

static void *invlock_mirror_entry_make(unsigned long hmm_pfn)
{
	unsigned long pfn = page_to_pfn(hmm_pfn_to_page(hmm_pfn));

	return xa_mk_value(pfn << 1 | (hmm_pfn & HMM_PFN_WRITE ? 1 : 0));
}

static bool invlock_mirror_entry_is_writable(void *entry)
{
	return xa_to_value(entry) & 1;
}

static struct page *invlock_mirror_entry_page(void *entry)
{
	return pfn_to_page(xa_to_value(entry) >> 1);
}

bool invlock_device_zap(struct mirror_device *dev, unsigned long first, unsigned long last)
{
	XA_STATE(xas, &dev->table, first);
	bool found = false;
	void *entry;

	lockdep_assert_held(&dev->table.xa_lock);
	xas_for_each(&xas, entry, last) {
		xas_store(&xas, NULL);
		dev->stats.entries--;
		found = true;
	}
	return found;
}

int invlock_device_publish(struct mirror_device *dev, const struct hmm_range *range)
{
	unsigned long index = range->start >> PAGE_SHIFT;
	unsigned long nr = (range->end - range->start) >> PAGE_SHIFT;
	void *old;

	lockdep_assert_held(&dev->table.xa_lock);
	for (unsigned long i = 0; i < nr; i++) {
		/* GFP_NOWAIT: reclaim may need this lock, so nothing may wait for reclaim here */
		old = __xa_store(&dev->table, index + i,
				 invlock_mirror_entry_make(range->hmm_pfns[i]),
				 GFP_NOWAIT | __GFP_NOWARN);
		if (xa_is_err(old))
			return xa_err(old);
		dev->stats.entries += !old;
	}
	return 0;
}

/* --- statistics --- */

/* Wait for @us, or until a test sets another value. */
static void invlock_device_wait(const unsigned int *param, unsigned int us)
{
	ktime_t end = ktime_add_us(ktime_get(), us);

	while (READ_ONCE(*param) == us && ktime_before(ktime_get(), end))
		fsleep(min(us, 10000U));
}

void invlock_device_walked(struct mirror_device *dev)
{
	/* before the walk is counted: what a test sets after that ends this wait */
	unsigned int us = READ_ONCE(invlock_mirror_delay_us);

	xa_lock(&dev->table);
	dev->stats.walks++;
	xa_unlock(&dev->table);
	invlock_device_wait(&invlock_mirror_delay_us, us);
}

void invlock_device_publishing(void)
{
	invlock_device_wait(&invlock_mirror_publish_us, READ_ONCE(invlock_mirror_publish_us));
}

void invlock_device_faulted(struct mirror_device *dev, const struct mirror_fault_count *count,
			    int err)
{
	struct invlock_mirror_stats *stats = &dev->stats;

	xa_lock(&dev->table);
	stats->faults++;
	stats->collisions += count->collisions;
	stats->waits += count->waits;
	stats->slow += count->slow;
	stats->locked_walks += count->walked_locked;
	stats->failed += !!err;
	stats->wait_ns += count->wait_ns;
	stats->longest_wait_ns = max(stats->longest_wait_ns, count->wait_ns);
	stats->most_walks = max(stats->most_walks, count->walks);
	xa_unlock(&dev->table);
}

long invlock_device_stats(struct mirror_device *dev, const unsigned long *running,
			  void __user *arg)
{
	struct invlock_mirror_stats stats;
	u32 size;

	if (get_user(size, (u32 __user *)arg))
		return -EFAULT;
	if (size != sizeof(stats))
		return -EINVAL;
	xa_lock(&dev->table);
	stats = dev->stats;
	stats.running = running ? *running : 0;
	xa_unlock(&dev->table);
	stats.size = size;
	return copy_to_user(arg, &stats, sizeof(stats)) ? -EFAULT : 0;
}

/* --- reads, writes and atomic additions --- */

static void invlock_device_move_bytes(void *memory, void *buffer, size_t len, u32 op)
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

/* Return: false if the table has no translation that allows the access. */
static bool invlock_device_transfer_page(struct mirror_device *dev, u64 addr, void *buffer,
					 size_t len, u32 op)
{
	void *entry, *memory;
	bool good;

	xa_lock(&dev->table);
	entry = xa_load(&dev->table, addr >> PAGE_SHIFT);
	good = entry && (op == INVLOCK_MIRROR_READ || invlock_mirror_entry_is_writable(entry));
	if (good) {
		memory = kmap_local_page(invlock_mirror_entry_page(entry));
		invlock_device_move_bytes(memory + offset_in_page(addr), buffer, len, op);
		kunmap_local(memory);
		/* the walk does not mark the page dirty, and reclaim may drop a clean page */
		if (op != INVLOCK_MIRROR_READ)
			folio_mark_dirty(page_folio(invlock_mirror_entry_page(entry)));
	}
	xa_unlock(&dev->table);
	return good;
}

static int invlock_device_transfer_mirrored(struct mirror_device *dev,
					    const struct invlock_mirror_access *access,
					    u64 addr, void *buffer, size_t len)
{
	struct mmu_invlock_budget budget = { .rounds = access->rounds, .time_ns = access->time_ns };
	u64 start = addr & PAGE_MASK;
	u64 end = min_t(u64, PAGE_ALIGN(access->addr + access->len),
			start + FAULT_PAGES * PAGE_SIZE);
	int err;

	/* an invalidation may remove the translation between the fault and its use: fault again */
	while (!invlock_device_transfer_page(dev, addr, buffer, len, access->op)) {
		err = dev->fault(dev, start, end, access->op != INVLOCK_MIRROR_READ, &budget);
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}

static int invlock_device_transfer(struct mirror_device *dev, struct mirror_pins *pins,
				   const struct invlock_mirror_access *access, void *bounce)
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
			err = invlock_mirror_pins_read(pins, addr, bounce, len);
		else
			err = invlock_device_transfer_mirrored(dev, access, addr, bounce, len);
		if (err)
			return err;
		if (access->op != INVLOCK_MIRROR_WRITE && copy_to_user(user, bounce, len))
			return -EFAULT;
	}
	return 0;
}

static bool invlock_mirror_access_is_valid(const struct invlock_mirror_access *a,
					   const struct mirror_pins *pins)
{
	if (a->size != sizeof(*a) || a->reserved || a->flags & ~INVLOCK_MIRROR_PINNED)
		return false;
	if (a->op > INVLOCK_MIRROR_ADD || (a->flags && (a->op != INVLOCK_MIRROR_READ || !pins)))
		return false;
	if (a->op == INVLOCK_MIRROR_ADD && (a->len != sizeof(u64) || a->addr % sizeof(u64)))
		return false;
	return a->len && a->len <= INVLOCK_MIRROR_MAX_LEN && a->addr + a->len > a->addr;
}

long invlock_device_access(struct mirror_device *dev, struct mirror_pins *pins,
			   const void __user *arg)
{
	struct invlock_mirror_access access;
	void *bounce;
	long err;

	if (copy_from_user(&access, arg, sizeof(access)))
		return -EFAULT;
	if (!invlock_mirror_access_is_valid(&access, pins))
		return -EINVAL;
	if (access.addr + access.len > TASK_SIZE)
		return -EFAULT;
	bounce = (void *)__get_free_page(GFP_KERNEL);
	if (!bounce)
		return -ENOMEM;
	xa_lock(&dev->table);
	dev->stats.accesses++;
	xa_unlock(&dev->table);
	err = invlock_device_transfer(dev, pins, &access, bounce);
	free_page((unsigned long)bounce);
	return err;
}
