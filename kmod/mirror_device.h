/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The software device under the mirrors: a page table, and reads, writes and atomics through
 * it. It stands for hardware: it knows this table and nothing else.
 *
 * The table is an xarray: page number to (pfn, may write). No page is pinned: while a
 * translation is in the table and the lock is held, the page cannot go away, because what
 * takes it away has to pass the mirror's invalidation first.
 */
#ifndef INVLOCK_MIRROR_DEVICE_H
#define INVLOCK_MIRROR_DEVICE_H

#include <linux/hmm.h>
#include <linux/xarray.h>
#include <invlock/dev.h>

#include "core/section.h"
#include "mirror_pin.h"

/**
 * struct mirror_device - the device, as one mm's mirror owns it
 * @table: guarded by its own xa_lock, the driver's lock
 * @stats: the same
 * @fault: bring [start, end) into the table; for writing, too? 0 or -errno. May sleep
 */
struct mirror_device {
	struct xarray table;
	struct invlock_mirror_stats stats;
	int (*fault)(struct mirror_device *dev, unsigned long start, unsigned long end, bool write,
		     const struct invlock_budget *budget);
};

/* what one fault has to tell for the statistics */
struct mirror_fault_count {
	u64 walks;
	u64 collisions;
	u64 waits;
	u64 wait_ns;
	bool slow;
	bool walked_locked;
};

void mirror_device_init(struct mirror_device *dev);
void mirror_device_destroy(struct mirror_device *dev);

/*
 * a range of whole pages from user space, of @least to @most bytes. Return: 0; -EFAULT, also for
 * what is beyond user space; -EINVAL
 */
long mirror_range_get(const void __user *arg, u64 least, u64 most,
		      struct invlock_mirror_pin *ret_range);

/* forget [first, last], page numbers. Locks: the table's. Return: was there anything? */
bool mirror_device_zap(struct mirror_device *dev, unsigned long first, unsigned long last);

/* what was walked goes into the table. Locks: the table's. Return: 0 or -ENOMEM */
int mirror_device_publish(struct mirror_device *dev, const struct hmm_range *range);

/* a walk is done: count it, and wait as long as the tests want it to be wide */
void mirror_device_walked(struct mirror_device *dev);
void mirror_device_faulted(struct mirror_device *dev, const struct mirror_fault_count *count,
			   int err);

/* INVLOCK_MIRROR_ACCESS; @pins: NULL where there is nothing pinned to read through */
long mirror_device_access(struct mirror_device *dev, struct mirror_pins *pins,
			  const void __user *arg);

/* INVLOCK_MIRROR_STATS; @running: NULL, or read under the table's lock */
long mirror_device_stats(struct mirror_device *dev, const unsigned long *running,
			 void __user *arg);

#endif /* INVLOCK_MIRROR_DEVICE_H */
