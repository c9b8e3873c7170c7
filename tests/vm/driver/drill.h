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
 *	notifier is unregistered earlier. DRILL_HOLD: how long each invalidation of the range
 *	stays between its start and the change, if it may sleep; 0 releases all of them
 * @how: DRILL_FAULT: 0, or one of DRILL_COLLIDE, DRILL_LEAVE and DRILL_NO_COMMIT
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
 * @dead: on return: 1 if the notifier was released
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
	__u64 dead;
};

/* make an invalidation of the range in each round, so that each is undone and none waits */
#define DRILL_COLLIDE		1
/* leave the loop between attempt and commit, which no driver may do */
#define DRILL_LEAVE		2
/* go round without a commit, which no driver may do */
#define DRILL_NO_COMMIT		3

#define DRILL_FAULT		_IOWR('d', 1, struct drill)
#define DRILL_HOLD		_IOWR('d', 2, struct drill)
#define DRILL_UNREGISTER	_IOWR('d', 3, struct drill)
#define DRILL_STATE		_IOWR('d', 4, struct drill)
#define DRILL_MEASURE		_IOWR('d', 5, struct drill)
/* unregister the notifier, and register one that does nothing but count under its lock */
#define DRILL_IDLE		_IOWR('d', 6, struct drill)

#endif /* INVLOCK_TESTS_VM_DRILL_H */
