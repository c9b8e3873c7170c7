// SPDX-License-Identifier: MIT
/*
 * Watching: which memory the kernel tells us about.
 *
 * A watch holds for the mapping that is there: one that replaces it is not watched. So a
 * range is sampled, then watched, then translated, in each round of a read section.
 *
 * What watch returns:
 *	-EFAULT		part of the range is not mapped
 *	-EMEDIUMTYPE	the kernel does not watch this memory: a read-only shared file, memory
 *			that another userfaultfd watches, ...
 *	-ENOSPC		too many mappings: each range that stands alone costs two, and we use
 *			half of vm.max_map_count at most. Raise it, or watch fewer ranges.
 *	-ENOMEM		no memory
 *	-EBUSY		the range is being changed all the time
 *	-ENOTRECOVERABLE the program closed our file descriptor
 * After an error a cache must not keep the range. No other watch is harmed.
 *
 * Lock order: u->lock is the innermost, and the thread that reads events never takes it.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "uffd.h"

struct pagemap_region {
	u64 start, end, categories;
};

struct pagemap_scan {
	u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define TRIES			8
#define PAGEMAP_SCAN_IOCTL	_IOWR('f', 16, struct pagemap_scan)
#define PAGEMAP_WATCHED		1u	/* write protection is asynchronous */

static int range_ioctl(const struct uffd *u, unsigned long op, u64 start, u64 end)
{
	struct uffdio_register reg = {
		.range = { .start = start, .len = end - start },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	/* The number may now belong to another userfaultfd, which would then watch our memory. */
	if (!own_fd_is(&u->uffd))
		return -EBADF;
	/* UNREGISTER reads the range alone, which is first */
	return ioctl(u->uffd.fd, op, &reg) ? -errno : 0;
}

/*
 * Huge pages of hugetlb are watched as a whole: the kernel says EINVAL to a part of one. Then
 * the range is widened to the size that is taken, as far as [low, high) allows.
 */
static int range_ioctl_widen(const struct uffd *u, unsigned long op, const struct gap *gap)
{
	int err = range_ioctl(u, op, gap->start, gap->end);

	for (u32 shift = UFFD_MIN_HUGE_SHIFT; err == -EINVAL && shift <= UFFD_MAX_HUGE_SHIFT;
	     shift++) {
		u64 huge = 1ULL << shift;
		u64 start = gap->start & ~(huge - 1), end = (gap->end + huge - 1) & ~(huge - 1);

		if (!(u->huge >> shift & 1))
			continue;
		if (start < gap->low || end > gap->high)
			break;
		err = range_ioctl(u, op, start, end);
	}
	return err;
}

void uffd_unregister(const struct uffd *u, u64 start, u64 end)
{
	range_ioctl(u, UFFDIO_UNREGISTER, start, end);
}

/* Unregister what no watch covers any more of [start, end). Locks: u->lock */
static void unregister_gaps_locked(const struct uffd *u, u64 start, u64 end)
{
	struct gap gap;

	for (; start < end && ranges_gap(&u->ranges, start, end, &gap); start = gap.end)
		range_ioctl_widen(u, UFFDIO_UNREGISTER, &gap);
}

/*
 * The kernel says ENOMEM both when memory is short and when the process has too many mappings. We
 * find out which by splitting a mapping of our own: that needs as many more mappings, two, and
 * hardly any memory.
 */
static bool at_map_limit(const struct uffd *u)
{
	u8 *middle = (u8 *)u->stack + u->stack_bytes + u->page;
	bool limit = mprotect(middle, u->page, PROT_READ) && errno == ENOMEM;

	mprotect(middle, u->page, PROT_NONE);
	return limit;
}

/* msync(MS_ASYNC) only looks for holes. libc's msync() is a cancellation point, so not that one. */
static bool has_hole(u64 start, u64 end)
{
	return syscall(SYS_msync, start, end - start, MS_ASYNC) != 0;
}

static int register_locked(const struct uffd *u, u64 start, u64 end)
{
	struct gap all = { start, end, 0, ~0ULL };
	int err = range_ioctl_widen(u, UFFDIO_REGISTER, &all);

	switch (err) {
	case 0:
		return 0;
	case -ENOMEM:
		if (has_hole(start, end))
			return -EFAULT;
		return at_map_limit(u) ? -ENOSPC : -ENOMEM;
	case -EBADF:
	case -ENOTTY:
		return -ENOTRECOVERABLE;
	default:
		return has_hole(start, end) ? -EFAULT : -EMEDIUMTYPE;
	}
}

/* Is every page of the range mapped and watched? UFFDIO_REGISTER passes over holes silently. */
static bool is_watched(const struct uffd *u, u64 start, u64 end)
{
	struct pagemap_region region = {};
	struct pagemap_scan scan = {
		.size = sizeof(scan),
		.start = start,
		.end = end,
		.vec = (unsigned long)&region,
		.vec_len = 1,
		.category_mask = PAGEMAP_WATCHED,
		.return_mask = PAGEMAP_WATCHED,
	};

	return ioctl(u->pagemap.fd, PAGEMAP_SCAN_IOCTL, &scan) == 1 &&
	       region.start <= start && region.end >= end;
}

void uffd_unwatch(struct invlock_mm *mm, u64 start, u64 end)
{
	struct uffd *u = mm->data;

	start &= ~(u->page - 1);
	end = (end + u->page - 1) & ~(u->page - 1);
	pthread_mutex_lock(&u->lock);
	if (ranges_remove(&u->ranges, start, end))
		unregister_gaps_locked(u, start, end);
	pthread_mutex_unlock(&u->lock);
}

static int watch_locked(struct uffd *u, u64 start, u64 end)
{
	int err = ranges_add(&u->ranges, start, end);

	if (err)
		return err;
	/* Register each time: another mapping may have replaced what was watched. */
	err = u->ranges.nr_runs > u->max_runs ? -ENOSPC : register_locked(u, start, end);
	if (err) {
		ranges_remove(&u->ranges, start, end);
		unregister_gaps_locked(u, start, end);
	}
	return err;
}

int uffd_watch(struct invlock_mm *mm, u64 start, u64 end)
{
	struct uffd *u = mm->data;
	int err = -EBUSY;

	start &= ~(u->page - 1);
	end = (end + u->page - 1) & ~(u->page - 1);
	if (end <= start)
		return -EFAULT;
	/* Try again: a change under way may have made it fail, or replaced what was watched. */
	for (int tries = 0; tries < TRIES && (err == -EBUSY || err == -EMEDIUMTYPE); tries++) {
		pthread_mutex_lock(&u->lock);
		err = watch_locked(u, start, end);
		pthread_mutex_unlock(&u->lock);
		if (err || is_watched(u, start, end))
			continue;
		err = has_hole(start, end) ? -EFAULT : -EBUSY;
		uffd_unwatch(mm, start, end);
	}
	return err;
}

void uffd_unwatch_all(struct uffd *u)
{
	struct gap run = { .high = ~0ULL };

	pthread_mutex_lock(&u->lock);
	for (u64 from = 0; ranges_run(&u->ranges, from, &run.start, &run.end); from = run.end)
		range_ioctl_widen(u, UFFDIO_UNREGISTER, &run);
	pthread_mutex_unlock(&u->lock);
}
