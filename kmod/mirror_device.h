/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The software device that both mirrors use: a page table, and reads, writes and atomic additions
 * through it. The device stands for hardware: it knows this table and nothing else.
 *
 * The table is an xarray that maps a page number to a page frame and to whether the device may
 * write to it. The pages are not pinned. Whoever wants to take a page away calls the mirror's
 * invalidation first, which removes the translation under the table's lock. So a page cannot go
 * away while its translation is in the table and that lock is held.
 */
#ifndef INVLOCK_MIRROR_DEVICE_H
#define INVLOCK_MIRROR_DEVICE_H

#include <linux/hmm.h>
#include <linux/xarray.h>
#include <invlock/dev.h>

#include "mirror_pin.h"
#include "mmu_invlock.h"

/**
 * struct mirror_device - the device of one mirror, which belongs to one mm
 * @table: the translations, guarded by table.xa_lock, which is the driver's lock
 * @stats: statistics, guarded by the same lock
 * @fault: bring translations of [start, end) into the table, for writing too if @write is set.
 *	May sleep. Return: 0 or -errno
 */
struct mirror_device {
	struct xarray table;
	struct invlock_mirror_stats stats;
	int (*fault)(struct mirror_device *dev, unsigned long start, unsigned long end, bool write,
		     const struct mmu_invlock_budget *budget);
};

/* What one fault adds to the statistics. */
struct mirror_fault_count {
	u64 walks;
	u64 collisions;
	u64 waits;
	u64 wait_ns;
	bool slow;
	bool walked_locked;
};

void invlock_device_init(struct mirror_device *dev);
void invlock_device_destroy(struct mirror_device *dev);

/*
 * Copy a range from user space. It has to consist of whole pages, and of @least to @most bytes.
 * Return: 0; -EFAULT, also if the range is beyond user space; -EINVAL.
 */
long invlock_mirror_range_get(const void __user *arg, u64 least, u64 most,
			      struct invlock_mirror_pin *ret_range);

/*
 * Remove the translations of the pages @first to @last. Locks: the table's. Return: was there a
 * translation?
 */
bool invlock_device_zap(struct mirror_device *dev, unsigned long first, unsigned long last);

/* Put the result of a walk into the table. Locks: the table's. Return: 0 or -ENOMEM. */
int invlock_device_publish(struct mirror_device *dev, const struct hmm_range *range);

/* Count a walk, then wait for delay_us, or until a test changes it. */
void invlock_device_walked(struct mirror_device *dev);

/* Wait for publish_us, or until a test changes it. */
void invlock_device_publishing(void);

/* Add a fault to the statistics. */
void invlock_device_faulted(struct mirror_device *dev, const struct mirror_fault_count *count,
			    int err);

/* Carry out INVLOCK_MIRROR_ACCESS. @pins is NULL for a mirror that cannot pin pages. */
long invlock_device_access(struct mirror_device *dev, struct mirror_pins *pins,
			   const void __user *arg);

/*
 * Carry out INVLOCK_MIRROR_STATS. @running is NULL, or points to the number of running
 * invalidations, which is read under the table's lock.
 */
long invlock_device_stats(struct mirror_device *dev, const unsigned long *running,
			  void __user *arg);

#endif /* INVLOCK_MIRROR_DEVICE_H */
