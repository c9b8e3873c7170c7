/* SPDX-License-Identifier: MIT */
/* /dev/invlock_drill, the device of drill.ko. Every call fills the whole struct. */
#ifndef INVLOCK_TESTS_VM_DRILL_H
#define INVLOCK_TESTS_VM_DRILL_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct drill - one request
 * @addr: the first byte of the range of a fault, or of the range to hold invalidations of
 * @len: the bytes of that range
 * @hold_us: DRILL_FAULT: how long each round stays between attempt and commit, unless the
 *	notifier is unregistered earlier, or there is a DRILL_HOLD. DRILL_HOLD: how long each
 *	invalidation of the range stays between its start and the change, if it may sleep; 0
 *	releases all of them
 * @how: DRILL_FAULT: 0, or one of DRILL_COLLIDE to DRILL_ANY
 * @time_ns: DRILL_FAULT: the time budget. DRILL_MEASURE: on return, the time that all attempts
 *	and commits took
 * @plain_ns: DRILL_MEASURE: on return, the same for mmu_interval_read_begin() and
 *	mmu_interval_read_retry()
 * @rounds: DRILL_FAULT: the budget of rounds; on return, how many there were. DRILL_MEASURE: how
 *	many to measure
 * @held: on return: the invalidations that are being held
 * @running: on return: the running invalidations, as the lock counts them
 * @starts: on return: the invalidations that have started
 * @atomic_starts: on return: those of them that were not allowed to sleep
 * @faults: on return: the fault loops in flight
 * @held_faults: on return: those of them that stay between attempt and commit
 * @dead: on return: 1 if the notifier was released
 * @dropped: on return: how often the driver was told to drop all translations
 * @reentered: DRILL_ANY: on return, 1 if the end of the fault made an invalidation in its task
 * @pfn: DRILL_WALK and DRILL_OVERLAP: each entry before the walk; on return, the flags that all
 *	entries have
 * @flags: DRILL_WALK and DRILL_OVERLAP: what the walk asks of every page, a mask of HMM_PFN_*
 * @mask: DRILL_WALK and DRILL_OVERLAP: pfn_flags_mask
 * @late: on return: the locks from DRILL_LATE that are not freed yet
 */
struct drill {
	__u64 addr;
	__u64 len;
	__u64 hold_us;
	__u64 how;
	__u64 time_ns;
	__u64 plain_ns;
	__u64 rounds;
	__u64 held;
	__u64 running;
	__u64 starts;
	__u64 atomic_starts;
	__u64 faults;
	__u64 held_faults;
	__u64 dead;
	__u64 dropped;
	__u64 reentered;
	__u64 pfn;
	__u64 flags;
	__u64 mask;
	__u64 late;
};

/* make an invalidation of the range in each round, so that each is undone and none waits, until
 * there is a DRILL_HOLD
 */
#define DRILL_COLLIDE		1
/* leave the loop between attempt and commit, which no driver may do */
#define DRILL_LEAVE		2
/* go round without a commit, which no driver may do */
#define DRILL_NO_COMMIT		3
/* walk the page table in each round, after an invalidation of the range */
#define DRILL_WALK		4
/* move the range to its second half in each round, and make an invalidation of the first half */
#define DRILL_MOVE		5
/* make an invalidation in each round that begins in the range and has the end 0 */
#define DRILL_TO_THE_END	6
/* start two invalidations of the range, and end one, and one of the memory behind the range */
#define DRILL_SURPLUS_END	7
/* as DRILL_WALK, but the invalidation ends only after the commit */
#define DRILL_OVERLAP		8
/* fault as a driver does whose lock sleeps, and end the fault under that lock */
#define DRILL_ANY		9

#define DRILL_FAULT		_IOWR('d', 1, struct drill)
#define DRILL_HOLD		_IOWR('d', 2, struct drill)
#define DRILL_UNREGISTER	_IOWR('d', 3, struct drill)
#define DRILL_STATE		_IOWR('d', 4, struct drill)
#define DRILL_MEASURE		_IOWR('d', 5, struct drill)
/* unregister the notifier, and register one that does nothing but count under its lock */
#define DRILL_IDLE		_IOWR('d', 6, struct drill)
/* discard the first len bytes of the file addr, as a shrinker does that runs in reclaim */
#define DRILL_RECLAIM_FILE	_IOWR('d', 7, struct drill)
/* open all devices in a kernel thread; the result is the first one that is not EINVAL */
#define DRILL_OPEN_IN_KERNEL	_IOWR('d', 8, struct drill)
/* get a lock that takes its time to be freed, and put it */
#define DRILL_LATE		_IOWR('d', 9, struct drill)
/* wait until all those are freed */
#define DRILL_SYNCHRONIZE	_IOWR('d', 10, struct drill)

#endif /* INVLOCK_TESTS_VM_DRILL_H */
