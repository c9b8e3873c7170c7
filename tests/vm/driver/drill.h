/* SPDX-License-Identifier: MIT */
/* /dev/invlock_drill: what drill.ko does for the tests. Every call fills the whole struct. */
#ifndef INVLOCK_TESTS_VM_DRILL_H
#define INVLOCK_TESTS_VM_DRILL_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct drill - one request
 * @addr, @len: the range of a fault, or the one in which invalidations are held
 * @hold_us: DRILL_FAULT: between attempt and commit, while the notifier is registered;
 *	DRILL_HOLD: each invalidation there that may sleep is held so long between its start and
 *	the change; 0 lets go of all of them
 * @how: DRILL_FAULT: DRILL_COLLIDE and the like, or 0
 * @time_ns: DRILL_FAULT: its budget; DRILL_MEASURE: out, attempt and commit
 * @plain_ns: DRILL_MEASURE: out, mmu_interval_read_begin() and _retry()
 * @rounds: DRILL_FAULT: its budget, and out, how many; DRILL_MEASURE: how many to take
 * @held: out: invalidations in the drill's hold now
 * @running: out: invalidations running now, as the lock counts them
 * @starts: out: invalidations begun
 * @atomic_starts: out: of these, the ones that could not sleep
 * @faults: out: fault loops in flight
 * @dead: out: there was a release
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

/* a fault: an invalidation of its range in each round, so that each is undone and none waits */
#define DRILL_COLLIDE		1
/* what no driver may do: leave the loop after an attempt, and go round without a commit */
#define DRILL_LEAVE		2
#define DRILL_NO_COMMIT		3

#define DRILL_FAULT		_IOWR('d', 1, struct drill)
#define DRILL_HOLD		_IOWR('d', 2, struct drill)
#define DRILL_UNREGISTER	_IOWR('d', 3, struct drill)
#define DRILL_STATE		_IOWR('d', 4, struct drill)
#define DRILL_MEASURE		_IOWR('d', 5, struct drill)
/* unregister, and register a notifier that does nothing but count under its lock */
#define DRILL_IDLE		_IOWR('d', 6, struct drill)

#endif /* INVLOCK_TESTS_VM_DRILL_H */
