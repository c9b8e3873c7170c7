// SPDX-License-Identifier: MIT
/*
 * Watching: which memory the kernel tells us about.
 *
 * A watch holds for the mapping that is there: one that replaces it is not watched. So a
 * range is sampled, then watched, then translated, in each round of a read section.
 *
 * The kernel is always given whole mappings. If it got a part of one, it would split the mapping,
 * and then refuse the program's own mremap() of the whole. A mapping that grows or moves takes its
 * registration along.
 *
 * What watch returns:
 *	-EFAULT		part of the range is not mapped
 *	-EMEDIUMTYPE	the kernel does not watch this memory: a read-only shared file, memory
 *			that another userfaultfd watches, ...
 *	-ENOSPC		too many ranges: each that stands alone can cost two mappings, since
 *			what is mapped beside it later does not merge with it. We use half
 *			of vm.max_map_count at most. Raise it, or watch fewer ranges.
 *	-ENOMEM		no memory
 *	-EBUSY		the range is being changed all the time
 *	-ENOTRECOVERABLE the program closed our file descriptor
 *	-EMFILE, ...	/proc/self/maps cannot be opened
 * After an error a cache must not keep the range. No other watch is harmed.
 *
 * Lock order: u->lock is the innermost, and the thread that reads events never takes it.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/monitor/mapping.h"
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
#define HIGHEST_SHIFT		63
#define TOP_GAP			(64UL << 10)

/*
 * To unregister takes the kernel 0.2 us for each page of the mapping. So a mapping is not
 * unregistered for the sake of a small part of it, unless it has no more bytes than this beside it.
 */
#define CHEAP_BYTES		(1UL << 20)

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

/* ---- whole mappings ---- */

/* The mappings of a range reach from low to high, and what is mapped right behind them to above. */
struct whole {
	u64 low, high, above;
};

static int whole_find(int maps, u64 start, u64 end, struct whole *ret)
{
	struct mapping m;
	int err = mapping_find(maps, start, &m);

	if (err)
		return err;
	ret->low = m.start;
	while (m.end < end) {
		err = mapping_find(maps, m.end, &m);
		if (err)
			return err;
	}
	do {
		ret->high = ret->above = m.end;
		if (mapping_find(maps, ret->high, &m))
			return 0;
		/* if it begins below, the last one has just grown */
	} while (m.start < ret->high);
	ret->above = m.end;
	return 0;
}

/*
 * Did the last mapping grow before the kernel was asked to change it up to its old end? Then the
 * kernel has split it there.
 */
static bool whole_was_split(const struct whole *before, const struct whole *now)
{
	return now->high == before->high && now->above != before->above;
}

static bool is_watched_by_none(const struct uffd *u, const struct whole *s)
{
	struct gap gap;

	return ranges_gap(&u->ranges, s->low, s->high, &gap) && gap.start == s->low &&
	       gap.end == s->high;
}

/* Locks: u->lock */
static int register_whole(const struct uffd *u, int maps, u64 start, u64 end)
{
	struct whole s, now;
	int err = 0;

	for (int tries = 0; tries < TRIES; tries++) {
		err = whole_find(maps, start, end, &s);
		if (!err)
			err = range_ioctl(u, UFFDIO_REGISTER, s.low, s.high);
		if (!err)
			err = whole_find(maps, start, end, &now);
		if (err || !whole_was_split(&s, &now))
			break;
		end = now.above;
	}
	return err;
}

/* msync(MS_ASYNC) only looks for holes. libc's msync() is a cancellation point, so not that one. */
static bool has_hole(u64 start, u64 end)
{
	return syscall(SYS_msync, start, end - start, MS_ASYNC) != 0;
}

static int register_locked(const struct uffd *u, int maps, u64 start, u64 end)
{
	int err = register_whole(u, maps, start, end);

	switch (err) {
	case 0:
		return 0;
	case -ENOENT:
		return -EFAULT;
	case -EBADF:
	case -ENOTTY:
		return -ENOTRECOVERABLE;
	case -ENOMEM:
		return has_hole(start, end) ? -EFAULT : -ENOMEM;
	default:
		return has_hole(start, end) ? -EFAULT : -EMEDIUMTYPE;
	}
}

/*
 * The first stretch of [start, end) that a userfaultfd such as ours watches. Return: 1; 0 = there
 * is none; another number = the kernel refuses to look.
 */
static int scan_watched(const struct uffd *u, u64 start, u64 end, struct pagemap_region *ret)
{
	struct pagemap_scan scan = {
		.size = sizeof(scan),
		.start = start,
		.end = end,
		.vec = (unsigned long)ret,
		.vec_len = 1,
		.category_mask = PAGEMAP_WATCHED,
		.return_mask = PAGEMAP_WATCHED,
	};

	*ret = (struct pagemap_region){};
	return ioctl(u->pagemap.fd, PAGEMAP_SCAN_IOCTL, &scan);
}

static bool has_watched(const struct uffd *u, u64 start, u64 end, struct pagemap_region *ret)
{
	return scan_watched(u, start, end, ret) == 1;
}

/* Is every page of the range mapped and watched? UFFDIO_REGISTER passes over holes silently. */
static bool is_watched(const struct uffd *u, u64 start, u64 end)
{
	struct pagemap_region region;

	return has_watched(u, start, end, &region) && region.start <= start && region.end >= end;
}

/*
 * Unregister the mappings of [start, end) in which nothing is watched, and which have no more than
 * @beside bytes beside the range. Locks: u->lock
 */
static void unregister_locked(const struct uffd *u, u64 start, u64 end, u64 beside)
{
	u64 most = end - start + beside;
	int maps = mappings_open();
	struct pagemap_region region;
	struct whole s, now;

	/* Without /proc/self/maps they stay registered, which does no harm. */
	for (; maps >= 0 && start < end && has_watched(u, start, end, &region); start = s.high) {
		if (whole_find(maps, region.start, region.start + 1, &s))
			break;
		if (s.high - s.low > most || !is_watched_by_none(u, &s))
			continue;
		/*
		 * Before Linux 6.17 unregistering takes memory away from any userfaultfd. That
		 * registering succeeds shows that it is ours.
		 */
		if (range_ioctl(u, UFFDIO_REGISTER, s.low, s.high) ||
		    range_ioctl(u, UFFDIO_UNREGISTER, s.low, s.high))
			continue;
		if (!whole_find(maps, s.low, s.high, &now) && whole_was_split(&s, &now) &&
		    now.above > end)
			end = now.above;
	}
	if (maps >= 0)
		mappings_close(maps);
}

static u64 page_up(const struct uffd *u, u64 addr)
{
	return addr < u->top ? (addr + u->page - 1) & ~(u->page - 1) : u->top;
}

void uffd_unwatch(struct invlock_mm *mm, u64 start, u64 end)
{
	struct uffd *u = mm->data;

	start &= ~(u->page - 1);
	end = (end + u->page - 1) & ~(u->page - 1);
	pthread_mutex_lock(&u->lock);
	if (ranges_remove(&u->ranges, start, end))
		unregister_locked(u, start, end, CHEAP_BYTES);
	pthread_mutex_unlock(&u->lock);
}

void uffd_release(struct invlock_mm *mm, u64 start, u64 end)
{
	struct uffd *u = mm->data;

	pthread_mutex_lock(&u->lock);
	unregister_locked(u, start & ~(u->page - 1), page_up(u, end), u->top);
	pthread_mutex_unlock(&u->lock);
}

static int watch_locked(struct uffd *u, u64 start, u64 end)
{
	int maps = mappings_open(), err = maps < 0 ? maps : ranges_add(&u->ranges, start, end);

	if (!err) {
		/* Register each time: another mapping may have replaced what was watched. */
		err = u->ranges.nr_runs > u->max_runs ? -ENOSPC :
		      register_locked(u, maps, start, end);
		if (err)
			ranges_remove(&u->ranges, start, end);
	}
	if (maps >= 0)
		mappings_close(maps);
	if (err && err != -ENOSPC)
		unregister_locked(u, start, end, CHEAP_BYTES);
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
	pthread_mutex_lock(&u->lock);
	ranges_clear(&u->ranges);
	unregister_locked(u, 0, u->top, u->top);
	pthread_mutex_unlock(&u->lock);
}

u64 uffd_top(const struct uffd *u)
{
	struct pagemap_region region;
	u64 top = 0;

	/* The kernel looks at no range that ends beyond its highest address for programs. */
	for (u32 shift = HIGHEST_SHIFT; !top && shift > 30; shift--)
		if (scan_watched(u, 0, (1ULL << shift) - TOP_GAP, &region) >= 0)
			top = (1ULL << shift) - TOP_GAP;
	return top;
}
