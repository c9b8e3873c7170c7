/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * The devices of invlock.ko.
 *
 *	/dev/invlock		the feed of the process that opened it: mmap() it, shared and
 *				read-only, from offset 0. read() of 8 bytes gives the sequence;
 *				poll() tells when it has moved since.
 *	/dev/invlock_mirror	a software device with a page table of its own, which mirrors
 *				the memory of the process that opened it
 *	/dev/invlock_interval	the same on mainline's mmu_interval_notifier, to compare with;
 *				only where the module was loaded with interval=1
 *
 * Every struct begins with its size, which is checked, and reserved fields must be zero:
 * -EINVAL else. An unknown request is -ENOTTY. A process that did not open the file itself
 * gets -EPERM, one whose address space is gone -EOWNERDEAD.
 */
#ifndef _INVLOCK_DEV_H
#define _INVLOCK_DEV_H

#include <linux/ioctl.h>
#include <invlock/feed.h>
#include <linux/types.h>

/*
 * The kinds that are in every feed: those that can take a pinned page out of the map. The
 * kernel does not tell more than this: UNMAP is munmap, MAP_FIXED, mremap, brk and shmdt;
 * DISCARD is whatever clears page table entries, by the program or for it; MIGRATE is the
 * same when reclaim does it, which leaves pinned pages where they are.
 */
#define INVLOCK_FEED_PINNED_KINDS	(1ULL << INVLOCK_KIND_UNKNOWN |	\
					 1ULL << INVLOCK_KIND_UNMAP |	\
					 1ULL << INVLOCK_KIND_DISCARD |	\
					 1ULL << INVLOCK_KIND_RELEASE)

/**
 * struct invlock_feed_see - ask for more kinds of change, and for the feed's size
 * @size: of this struct
 * @reserved: zero
 * @kinds: in: a mask to add for this process, 0 = none; PROTECT, SOFT_DIRTY and MIGRATE are
 *	those that are not there by themselves. Out: all that are in its feed now.
 * @feed_size: in: zero; out: bytes to map
 */
struct invlock_feed_see {
	__u32 size;
	__u32 reserved;
	__u64 kinds;
	__u64 feed_size;
};

#define INVLOCK_FEED_SEE	_IOWR('v', 0x01, struct invlock_feed_see)

#define INVLOCK_MIRROR_READ	0	/* device to buffer */
#define INVLOCK_MIRROR_WRITE	1	/* buffer to device */
/* atomic: 8 bytes, aligned; buffer: the addend, then the old value */
#define INVLOCK_MIRROR_ADD	2

#define INVLOCK_MIRROR_MAX_LEN	(1 << 24)

/**
 * struct invlock_mirror_access - the device reads or writes memory of the process
 * @size: of this struct
 * @op: INVLOCK_MIRROR_READ, _WRITE or _ADD
 * @addr: where in the process
 * @len: bytes, 1 to INVLOCK_MIRROR_MAX_LEN
 * @buffer: the process's buffer for the other side of the transfer
 * @rounds: budget of one fault; 0 = the default
 * @flags: INVLOCK_MIRROR_PINNED, or 0
 * @time_ns: the same
 * @reserved: zero
 *
 * -EFAULT where nothing is mapped, or it is not for the device; -EPERM for a write to memory
 * that is not writable; -EBUSY when the range would not stay still within the budget; -EINTR
 * when killed.
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

/* through the pages that INVLOCK_MIRROR_PIN fixed, whatever was mapped since: goes stale */
#define INVLOCK_MIRROR_PINNED	1u

/**
 * struct invlock_mirror_pin - fix the pages of a range, as a registration does
 * @size: of this struct
 * @reserved: zero
 * @addr: on a page boundary
 * @len: whole pages, up to INVLOCK_MIRROR_MAX_LEN; 0 = unpin
 *
 * What is pinned counts against RLIMIT_MEMLOCK: -ENOMEM beyond it.
 */
struct invlock_mirror_pin {
	__u32 size;
	__u32 reserved;
	__u64 addr;
	__u64 len;
};

/**
 * struct invlock_mirror_stats - what this process's mirror did
 * @size: of this struct
 * @running: invalidations running now
 * @accesses: requests
 * @faults: fault loops begun
 * @walks: of the page table; more than @faults when rounds were undone
 * @collisions: rounds that were undone
 * @waits: times a fault found its range busy
 * @slow: faults that took the slow path
 * @locked_walks: faults that ended with the walk under the device's lock
 * @failed: faults that ended with an error
 * @starts: invalidations begun, of any range
 * @zapped: of those, the ones that found a translation in the device's table
 * @entries: translations in the table now
 * @wait_ns: nanoseconds that faults waited before their walks, for invalidations and locks
 * @longest_wait_ns: the most of it in one fault
 * @most_walks: the most walks in one fault
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
/* /dev/invlock_interval: watch this range only, with one notifier; @len is not 0 */
#define INVLOCK_MIRROR_RANGE	_IOW('v', 0x43, struct invlock_mirror_pin)

#endif /* _INVLOCK_DEV_H */
