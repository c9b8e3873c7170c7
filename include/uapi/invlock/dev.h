/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * The devices of invlock.ko, which has the first one, and of invlock_test.ko, which has the others.
 * invlock.ko(4) explains them.
 *
 *	/dev/invlock		gives a process the feed of its own address space. mmap() it
 *				shared and read-only, from offset 0. A read() of 8 bytes returns
 *				the sequence; poll() tells when it has moved since then.
 *	/dev/invlock_mirror	a device in software with a page table of its own, which mirrors
 *				the memory of the process that opened it
 *	/dev/invlock_interval	the same device, built on the kernel's mmu_interval_notifier, for
 *				comparison
 *	/dev/invlock_any	the same device once more, with a lock that sleeps
 *
 * Every struct begins with its size. A request with a wrong size, or with a reserved field that is
 * not zero, fails with -EINVAL. An unknown request fails with -ENOTTY. A process that did not open
 * the file itself gets -EPERM, and one whose address space is gone gets -EOWNERDEAD.
 */
#ifndef _INVLOCK_DEV_H
#define _INVLOCK_DEV_H

#include <linux/ioctl.h>
#include <invlock/feed.h>
#include <linux/types.h>

/*
 * Every feed records these kinds, because they can remove a pinned page from the map. The kernel
 * does not tell more kinds apart. UNMAP stands for munmap, MAP_FIXED, mremap, brk and shmdt.
 * DISCARD stands for everything else that clears page table entries. Reclaim, too, is a DISCARD: it
 * leaves pinned pages where they are, but it looks like a shrinker that truncates a file.
 */
#define INVLOCK_FEED_PINNED_KINDS	(1ULL << INVLOCK_KIND_UNKNOWN |	\
					 1ULL << INVLOCK_KIND_UNMAP |	\
					 1ULL << INVLOCK_KIND_DISCARD |	\
					 1ULL << INVLOCK_KIND_RELEASE)

/**
 * struct invlock_feed_see - add kinds of change to the feed, and ask for its size
 * @size: the size of this struct
 * @reserved: zero
 * @kinds: a mask of kinds to add, or 0. By default a feed does not record PROTECT, SOFT_DIRTY and
 *	MIGRATE. On return: a mask of all kinds that the feed records now
 * @feed_size: zero. On return: how many bytes to map
 */
struct invlock_feed_see {
	__u32 size;
	__u32 reserved;
	__u64 kinds;
	__u64 feed_size;
};

#define INVLOCK_FEED_SEE	_IOWR('v', 0x01, struct invlock_feed_see)

/* values of struct invlock_mirror_access.op */
#define INVLOCK_MIRROR_READ	0	/* the device reads addr; the data goes to buffer */
#define INVLOCK_MIRROR_WRITE	1	/* the device writes the data of buffer to addr */
/* add buffer's number to 8 aligned bytes at addr, atomically; buffer then has the old value */
#define INVLOCK_MIRROR_ADD	2

#define INVLOCK_MIRROR_MAX_LEN	(1 << 24)

/**
 * struct invlock_mirror_access - let the device read or write memory of the process
 * @size: the size of this struct
 * @op: INVLOCK_MIRROR_READ, INVLOCK_MIRROR_WRITE or INVLOCK_MIRROR_ADD
 * @addr: the memory that the device accesses
 * @len: how many bytes, from 1 to INVLOCK_MIRROR_MAX_LEN
 * @buffer: memory of the process for the other side of the transfer
 * @rounds: how many rounds each fault may take; 0 = the default
 * @flags: INVLOCK_MIRROR_PINNED, or 0
 * @time_ns: how much time each fault may take; 0 = the default
 * @reserved: zero
 *
 * Errors: -EFAULT if nothing is mapped, or the device cannot use it; -EPERM for a write to memory
 * that is not writable; -EBUSY if the range kept changing until the budget was spent; -EINTR if the
 * task was killed.
 */
struct invlock_mirror_access {
	__u32 size;
	__u32 op;
	__u64 addr;
	__u64 len;
	__u64 buffer;
	__u32 rounds;
	__u32 flags;
	__u64 time_ns;
	__u64 reserved;
};

/* read the pages that INVLOCK_MIRROR_PIN has pinned, although they may be stale by now */
#define INVLOCK_MIRROR_PINNED	1u

/**
 * struct invlock_mirror_pin - pin the pages of a range, as a registration does
 * @size: the size of this struct
 * @reserved: zero
 * @addr: the first byte, on a page boundary
 * @len: a multiple of the page size, up to INVLOCK_MIRROR_MAX_LEN; 0 = unpin
 *
 * Pinned pages count against RLIMIT_MEMLOCK; beyond it, the error is -ENOMEM.
 */
struct invlock_mirror_pin {
	__u32 size;
	__u32 reserved;
	__u64 addr;
	__u64 len;
};

/**
 * struct invlock_mirror_stats - statistics of this process's mirror
 * @size: the size of this struct
 * @running: the invalidations that are running now
 * @accesses: the valid requests INVLOCK_MIRROR_ACCESS
 * @faults: the faults
 * @walks: the walks of the page table; more than @faults if rounds were undone
 * @collisions: the rounds that were undone
 * @waits: how often a fault found its range busy
 * @slow: the faults that took the slow path
 * @locked_walks: the faults that looked up their pages under the device's lock
 * @failed: the faults that ended with an error
 * @starts: the invalidations that have started, of any range
 * @zapped: those of them that found a translation in the device's table
 * @entries: the translations that are in the table now
 * @wait_ns: the nanoseconds that faults waited for invalidations and locks before their walks
 * @longest_wait_ns: the longest wait of one fault
 * @most_walks: the most walks of one fault
 */
struct invlock_mirror_stats {
	__u32 size;
	__u32 running;
	__u64 accesses;
	__u64 faults;
	__u64 walks;
	__u64 collisions;
	__u64 waits;
	__u64 slow;
	__u64 locked_walks;
	__u64 failed;
	__u64 starts;
	__u64 zapped;
	__u64 entries;
	__u64 wait_ns;
	__u64 longest_wait_ns;
	__u64 most_walks;
};

#define INVLOCK_MIRROR_ACCESS	_IOW('v', 0x40, struct invlock_mirror_access)
#define INVLOCK_MIRROR_PIN	_IOW('v', 0x41, struct invlock_mirror_pin)
#define INVLOCK_MIRROR_STATS	_IOWR('v', 0x42, struct invlock_mirror_stats)
/* only for /dev/invlock_interval and /dev/invlock_any: watch this range only, whose len is not 0 */
#define INVLOCK_MIRROR_RANGE	_IOW('v', 0x43, struct invlock_mirror_pin)

#endif /* _INVLOCK_DEV_H */
