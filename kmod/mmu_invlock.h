/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A driver that mirrors the page table of a process uses mmu_invlock together with struct
 * mmu_notifier, so that it never publishes a stale translation. Its lock is a spinlock. There is
 * mmu_invlock_any.h for a driver whose lock sleeps.
 *
 *	struct my_mirror {
 *		struct mmu_invlock inv;
 *		spinlock_t lock;
 *		table;				guarded by lock
 *	};
 *
 * Invalidation. The kernel calls these before and after the page table changes:
 *
 *	spin_lock(lock)
 *	zap the range from the table
 *	mmu_invlock_inv_start(inv, range)
 *	spin_unlock(lock)
 *		... the page table changes ...
 *	spin_lock(lock)
 *	mmu_invlock_inv_end(inv, range)
 *	spin_unlock(lock)
 *
 * MMU_INVLOCK_NOTIFIER_OPS provides these callbacks for a driver that needs nothing special.
 *
 * Fault. It runs in a task that may sleep:
 *
 *	mmu_invlock_fault_init(&f, inv, start, end, NULL);
 *	f.range.hmm_pfns = pfns;
 *	f.range.default_flags = HMM_PFN_REQ_FAULT;
 *	while (mmu_invlock_attempt(&f)) {		waits, takes the mmap lock
 *		err = hmm_range_fault(&f.range);	may sleep
 *		spin_lock(lock);
 *		if (mmu_invlock_commit(&f, err))	checks, drops the mmap lock
 *			put pfns into the table;
 *		spin_unlock(lock);
 *	}
 *	return mmu_invlock_fault_end(&f);
 *
 * Lock order: mmap lock, folio and rmap locks, then the driver's lock. An allocation under the
 * driver's lock must not reclaim memory.
 * docs/driver.md explains the rest.
 */
#ifndef MMU_INVLOCK_H
#define MMU_INVLOCK_H

#include <linux/hmm.h>
#include <linux/list.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/wait.h>

struct mmu_invlock;

/**
 * mmu_invlock_prime() - tell lockdep that reclaim takes a driver's lock
 * @lock: any lock that an invalidation takes
 *
 * Lockdep then finds an allocation under the lock that may reclaim memory the first time that it
 * is made, and not only when reclaim meets it. mmu_invlock_init() does this; a driver that uses
 * mmu_invlock_any.h does it when it has initialized its lock.
 * Context: may sleep.
 * Since: 0.1
 */
#define mmu_invlock_prime(lock)			\
do {						\
	fs_reclaim_acquire(GFP_KERNEL);		\
	might_lock(lock);			\
	fs_reclaim_release(GFP_KERNEL);		\
} while (0)

/**
 * struct mmu_invlock_ops - what MMU_INVLOCK_NOTIFIER_OPS asks of the driver
 * @invalidate: drop every translation of the range. Context: the driver's lock is held; the
 *	function must not sleep, allocate or fail
 * @release: drop all translations, because the mm is going away. Context: as for @invalidate. NULL
 *	stands for a call of @invalidate with the whole address space and MMU_NOTIFY_RELEASE
 */
struct mmu_invlock_ops {
	void (*invalidate)(struct mmu_invlock *inv, const struct mmu_notifier_range *range);
	void (*release)(struct mmu_invlock *inv);
};

/*
 * Running invalidations are counted by stripes of 2 MiB. Several stripes share a counter, so a
 * fault may wait for an invalidation elsewhere, but it never misses one.
 */
#define MMU_INVLOCK_STRIPE_SHIFT	21
#define MMU_INVLOCK_NR_COUNTERS		256	/* a power of two */
/* an invalidation of more stripes is not counted there: it is too wide */
#define MMU_INVLOCK_MAX_STRIPES		32

/*
 * Running invalidations that are too wide for stripes are told apart by their ranges: all but one
 * of these elements have one range each, and the last one has all other ranges.
 */
#define MMU_INVLOCK_NR_WIDE	5

/**
 * struct mmu_invlock_wide - running invalidations that are too wide for stripes
 * @start: the first byte that any of them covers
 * @end: the byte after the last one that any of them covers
 * @nr: how many they are; 0 makes @start and @end meaningless
 */
struct mmu_invlock_wide {
	unsigned long start, end;
	unsigned int nr;
};

/**
 * struct mmu_invlock - one driver's view of one mm
 * @notifier: the registered notifier; notifier.mm is the mm
 * @lock: the driver's lock, from mmu_invlock_init()
 * @ops: also from mmu_invlock_init(); NULL for a driver with callbacks of its own
 * @faults: the faults in flight, which are between their attempt and their commit
 * @running: the number of running invalidations of the whole mm
 * @closed: 0, or the reason why every fault fails: -EOWNERDEAD or -ENOTRECOVERABLE
 * @wide: the running invalidations that are too wide for stripes. Those in one element have the
 *	same range, except in the last one, which takes those that the others have no room for
 * @counters: the number of running invalidations in the stripes that share each of them
 * @quiet: faults wait here until no invalidation of their range is running
 * @live: on the list of all locks, which mmu_invlock_synchronize() reads; guarded by its own lock
 *
 * @lock guards @faults and everything after it but @quiet and @live.
 */
struct mmu_invlock {
	struct mmu_notifier notifier;
	spinlock_t *lock;		/* guards the driver's table, too */
	const struct mmu_invlock_ops *ops;
	struct hlist_head faults;
	unsigned long running;
	int closed;
	struct mmu_invlock_wide wide[MMU_INVLOCK_NR_WIDE];
	u32 counters[MMU_INVLOCK_NR_COUNTERS];
	wait_queue_head_t quiet;
	struct list_head live;
};

/**
 * mmu_invlock_init() - prepare a lock before its notifier is registered
 * @inv: the lock, in zeroed memory
 * @lock: the driver's lock. It must be a spinlock: the kernel makes some invalidations where
 *	nothing may sleep, and the start of an invalidation that has an end must not fail.
 * @ops: NULL for a driver that calls mmu_invlock_inv_start() and mmu_invlock_inv_end() itself
 *
 * To register a notifier again, call mmu_invlock_destroy() and then mmu_invlock_init() again.
 *
 * Context: may sleep; may be called in ->alloc_notifier.
 * Since: 0.1
 */
void mmu_invlock_init(struct mmu_invlock *inv, spinlock_t *lock,
		      const struct mmu_invlock_ops *ops);

/**
 * mmu_invlock_destroy() - end what mmu_invlock_init() began
 * @inv: a lock that is no longer registered. Call this in ->free_notifier, or after
 *	mmu_notifier_unregister().
 *
 * An invalidation may still be running and never end. That is fine: no fault can be waiting for
 * it.
 * Context: any but an interrupt.
 * Since: 0.1
 */
void mmu_invlock_destroy(struct mmu_invlock *inv);

/**
 * mmu_invlock_register() - make a lock for a driver that has one for each open file or context
 * @inv: the lock, in zeroed memory
 * @mm: the mm, on which the caller holds a reference
 * @lock: as for mmu_invlock_init()
 * @ops: as for mmu_invlock_init(), but not NULL: the kernel calls MMU_INVLOCK_NOTIFIER_OPS
 *
 * Context: may sleep; takes the mmap lock for writing.
 * Return: 0; -ENOMEM; -EINTR.
 * Since: 0.1
 */
int mmu_invlock_register(struct mmu_invlock *inv, struct mm_struct *mm, spinlock_t *lock,
			 const struct mmu_invlock_ops *ops);

/**
 * mmu_invlock_unregister() - end what mmu_invlock_register() began
 * @inv: the lock; no fault is in flight
 *
 * Every translation is dropped first, as by mmu_invlock_release(). After this call no callback
 * runs, so the memory of @inv may be freed.
 * Context: may sleep.
 * Since: 0.1
 */
void mmu_invlock_unregister(struct mmu_invlock *inv);

/**
 * mmu_invlock_get() - get the lock of an mm, or make it
 * @ops: the driver's notifier callbacks; alloc_notifier calls mmu_invlock_init()
 * @mm: the mm, on which the caller holds a reference
 *
 * Context: may sleep; takes the mmap lock for writing.
 * Return: a lock with one more reference, or an ERR_PTR: -ENOMEM; -EINTR; the error of
 *	alloc_notifier; or -EINVAL if @mm is NULL, as current->mm is in a kernel thread.
 * Since: 0.1
 */
struct mmu_invlock *mmu_invlock_get(const struct mmu_notifier_ops *ops, struct mm_struct *mm);

/**
 * mmu_invlock_put() - drop a reference
 * @inv: from mmu_invlock_get()
 *
 * Some time after the last reference is dropped, ->free_notifier runs. Hold a reference while a
 * fault is in flight. A module calls mmu_invlock_synchronize() before it is unloaded.
 * Context: any.
 * Since: 0.1
 */
static inline void mmu_invlock_put(struct mmu_invlock *inv)
{
	mmu_notifier_put(&inv->notifier);
}

/**
 * mmu_invlock_synchronize() - wait until all locks of a driver are freed
 * @ops: the driver's notifier callbacks. ->free_notifier must not sleep, or queue its work, after
 *	it has called mmu_invlock_destroy()
 *
 * A module calls this when it is unloaded, after the last mmu_invlock_put() and while nobody can
 * get another lock. mmu_notifier_synchronize() is not enough: it waits for callbacks that run on
 * the page table, and ->free_notifier may still have to run after that on a machine with many CPUs.
 * Context: may sleep.
 * Since: 0.1
 */
void mmu_invlock_synchronize(const struct mmu_notifier_ops *ops);

/**
 * mmu_invlock_inv_start() - the page table of a range is about to change
 * @inv: the lock
 * @range: the argument of the notifier's callback
 *
 * Call this for every invalidation, whatever the driver holds of its range. Invalidations are
 * counted, so one cannot hide another, and starts may nest in one thread. Every fault in flight
 * over the range will be undone, and no fault over the range begins before the end.
 *
 * Context: the driver's lock is held; never waits, allocates or fails.
 * Since: 0.1
 */
void mmu_invlock_inv_start(struct mmu_invlock *inv, const struct mmu_notifier_range *range);

/**
 * mmu_invlock_inv_end() - the page table of the range has changed
 * @inv: the lock
 * @range: the same range as in the start
 *
 * An end without a start prints a warning, and every later fault fails. It is noticed only while no
 * other invalidation of that part of the address space is running.
 * Context: the driver's lock is held; never waits, allocates or fails.
 * Since: 0.1
 */
void mmu_invlock_inv_end(struct mmu_invlock *inv, const struct mmu_notifier_range *range);

/**
 * mmu_invlock_release() - the mm or its notifier is going away
 * @inv: the lock
 *
 * Call this in ->release. Every fault, including those in flight, ends with -EOWNERDEAD.
 * Context: the driver's lock is held.
 * Since: 0.1
 */
void mmu_invlock_release(struct mmu_invlock *inv);

/* Ready-made callbacks: they take the lock and call mmu_invlock_ops and the functions above. */
int mmu_invlock_range_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range);
void mmu_invlock_range_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range);
void mmu_invlock_mm_release(struct mmu_notifier *mn, struct mm_struct *mm);

#define MMU_INVLOCK_NOTIFIER_OPS				\
	.invalidate_range_start = mmu_invlock_range_start,	\
	.invalidate_range_end = mmu_invlock_range_end,		\
	.release = mmu_invlock_mm_release

#define MMU_INVLOCK_DEFAULT_ROUNDS	64
#define MMU_INVLOCK_DEFAULT_TIME_NS	NSEC_PER_SEC

/**
 * struct mmu_invlock_budget - when the optimistic rounds of a loop end
 * @rounds: how many of them may be undone; 0 stands for MMU_INVLOCK_DEFAULT_ROUNDS
 * @time_ns: wall time from the first round that was undone, or from the first wait, on; work
 *	counts, too. 0 stands for MMU_INVLOCK_DEFAULT_TIME_NS
 */
struct mmu_invlock_budget {
	u32 rounds;
	u64 time_ns;
};

/* What is left to a loop. Private, as are the functions. */
struct mmu_invlock_left {
	u32 rounds;
	bool slow;		/* the slow path has been taken, and has this budget */
	u64 time_ns;		/* of each path */
	u64 deadline;		/* of this path; 0: the clock has not been started */
};

static inline void mmu_invlock_left_init(struct mmu_invlock_left *left,
					 const struct mmu_invlock_budget *budget)
{
	left->rounds = budget && budget->rounds ? budget->rounds : MMU_INVLOCK_DEFAULT_ROUNDS;
	left->slow = false;
	left->time_ns = budget && budget->time_ns ? budget->time_ns :
						    MMU_INVLOCK_DEFAULT_TIME_NS;
	left->deadline = 0;
}

void mmu_invlock_left_start_clock(struct mmu_invlock_left *left);
int mmu_invlock_left_check(struct mmu_invlock_left *left);
long mmu_invlock_left_jiffies(const struct mmu_invlock_left *left);

/* which counter counts a stripe: neighbours have different ones */
static inline unsigned int mmu_invlock_counter_of(unsigned long stripe)
{
	return (stripe ^ (stripe >> 8) ^ (stripe >> 16)) % MMU_INVLOCK_NR_COUNTERS;
}

enum mmu_invlock_fault_state {
	MMU_INVLOCK_NEW,
	MMU_INVLOCK_IN_FLIGHT,	/* on inv->faults, with the mmap lock held */
	MMU_INVLOCK_AGAIN,	/* the round was undone */
	MMU_INVLOCK_DONE,	/* the caller may publish, or error says why it may not */
};

/**
 * struct mmu_invlock_fault - one fault: a read section around a walk of the page table
 * @range: the argument of hmm_range_fault(); the driver sets hmm_pfns and the flags. It may move
 *	start, end and hmm_pfns during a round, to walk the range in parts
 * @collisions: how many rounds were undone
 * @waits: how often an attempt found the range busy, and waited
 * @left: what is left of the budget; left.slow says whether the slow path was taken
 */
struct mmu_invlock_fault {
	struct hmm_range range;
	u32 collisions;
	u32 waits;
	struct mmu_invlock_left left;

	/* private: */
	unsigned long start, end;	/* what the fault covers, wherever range has moved */
	bool walked_locked;		/* the pages were looked up under inv->lock */
	bool mm_held;			/* mmget_not_zero() was called; mmput() is due */
	enum mmu_invlock_fault_state state;
	int error;			/* what mmu_invlock_fault_end() will return */
	struct mmu_invlock *inv;
	struct hlist_node in_flight;	/* on inv->faults; guarded by inv->lock */
	/*
	 * hmm_range_fault() reads this notifier, which is never registered. An invalidation that
	 * overlaps the fault sets walk.invalidate_seq to 1 under inv->lock. A reader without that
	 * lock may use the value as a hint only.
	 */
	struct mmu_interval_notifier walk;
};

#define MMU_INVLOCK_SLOW_ROUNDS	8
/* the slow path looks up no more pages than this under the driver's lock */
#define MMU_INVLOCK_LOCKED_PAGES	512

/* Slow paths, in fault.c. Most faults never call them. */
void mmu_invlock_fault_init_slow(struct mmu_invlock_fault *f);
bool mmu_invlock_attempt_slow(struct mmu_invlock_fault *f);
bool mmu_invlock_commit_slow(struct mmu_invlock_fault *f, int err);
int mmu_invlock_fault_end_slow(struct mmu_invlock_fault *f);

/**
 * mmu_invlock_fault_init() - prepare the loop
 * @f: the fault, on the caller's stack
 * @inv: the lock, on which the caller holds a reference
 * @start: the first byte, on a page boundary
 * @end: the byte after the last one, on a page boundary
 * @budget: how many optimistic rounds, and how much wall time, the loop may take, or NULL for the
 *	defaults. When rounds or time are spent, the slow path begins. It has
 *	MMU_INVLOCK_SLOW_ROUNDS rounds and the same amount of time.
 *
 * mmu_invlock_fault_end() reports the errors.
 * Context: may sleep.
 * Since: 0.1
 */
static inline void mmu_invlock_fault_init(struct mmu_invlock_fault *f, struct mmu_invlock *inv,
					  unsigned long start, unsigned long end,
					  const struct mmu_invlock_budget *budget)
{
	f->range = (struct hmm_range){ .notifier = &f->walk, .start = start, .end = end };
	f->start = start;
	f->end = end;
	f->collisions = 0;
	f->waits = 0;
	f->walked_locked = false;
	f->mm_held = false;
	f->state = MMU_INVLOCK_NEW;
	f->error = 0;
	f->inv = inv;
	mmu_invlock_left_init(&f->left, budget);
	f->walk.mm = inv->notifier.mm;
	/* the current task's own mm stays as long as the task is here, so it needs no reference */
	if (unlikely(f->walk.mm != current->mm || start >= end || (start | end) & ~PAGE_MASK))
		mmu_invlock_fault_init_slow(f);
}

/**
 * mmu_invlock_fault_init_range() - prepare the loop for the driver's own struct hmm_range
 * @f: the fault
 * @inv: the lock
 * @range: its start, end, hmm_pfns, default_flags, pfn_flags_mask and dev_private_owner are copied.
 *	Pass &f->range to hmm_range_fault(). What it finds is in the driver's own hmm_pfns
 * @budget: as for mmu_invlock_fault_init()
 *
 * Context: may sleep.
 * Since: 0.1
 */
static inline void mmu_invlock_fault_init_range(struct mmu_invlock_fault *f,
						struct mmu_invlock *inv,
						const struct hmm_range *range,
						const struct mmu_invlock_budget *budget)
{
	mmu_invlock_fault_init(f, inv, range->start, range->end, budget);
	f->range.hmm_pfns = range->hmm_pfns;
	f->range.default_flags = range->default_flags;
	f->range.pfn_flags_mask = range->pfn_flags_mask;
	f->range.dev_private_owner = range->dev_private_owner;
}

/*
 * Put the fault in flight. Locks: inv->lock, and the mmap lock, which belongs to the fault from
 * here on.
 */
static inline void mmu_invlock_fault_enter(struct mmu_invlock_fault *f)
{
	lockdep_assert_held(f->inv->lock);
	/* only this task will read it without the lock */
	f->walk.invalidate_seq = 0;
	hlist_add_head(&f->in_flight, &f->inv->faults);
	f->state = MMU_INVLOCK_IN_FLIGHT;
}

/*
 * Tell lockdep what the loop may wait for, also when it need not wait this time: memory, the mmap
 * lock, and invalidations, which lockdep takes for a part of reclaim.
 */
static __always_inline void mmu_invlock_check_context(const struct mmu_invlock_fault *f)
{
	might_alloc(GFP_KERNEL);
	/* without a commit the lock is still held: mmu_invlock_attempt_slow() warns of that */
	if (f->state != MMU_INVLOCK_IN_FLIGHT)
		might_lock_read(&f->walk.mm->mmap_lock);
	lockdep_assert_not_held(f->inv->lock);
}

/* Most faults find the mmap lock free and no invalidation running. They need only this. */
static __always_inline bool mmu_invlock_attempt_fast(struct mmu_invlock_fault *f)
{
	struct mmu_invlock *inv = f->inv;

	if (unlikely(!mmap_read_trylock(f->walk.mm)))
		return false;
	spin_lock(inv->lock);
	if (unlikely(inv->running || inv->closed)) {
		spin_unlock(inv->lock);
		mmap_read_unlock(f->walk.mm);
		return false;
	}
	mmu_invlock_fault_enter(f);
	spin_unlock(inv->lock);
	return true;
}

/**
 * mmu_invlock_attempt() - begin a round: wait until the range is quiet, take the mmap lock
 * @f: the fault
 *
 * A fatal signal ends every wait. The slow path takes the mmap lock for writing. That keeps out
 * most invalidations, but not all of them: see mmu_invlock_commit().
 *
 * Context: may sleep. Locks: the caller must hold no lock that an invalidation, or a holder of the
 *	mmap lock, may need.
 * Return: true with the mmap lock held: walk the page table, then call mmu_invlock_commit().
 *	False: leave the loop.
 * Since: 0.1
 */
static __always_inline bool mmu_invlock_attempt(struct mmu_invlock_fault *f)
{
	if (f->state == MMU_INVLOCK_DONE)
		return false;
	mmu_invlock_check_context(f);
	if (f->state == MMU_INVLOCK_NEW && likely(mmu_invlock_attempt_fast(f)))
		return true;
	return mmu_invlock_attempt_slow(f);
}

/**
 * mmu_invlock_commit() - did an invalidation collide with the walk?
 * @f: the fault, for which mmu_invlock_attempt() has just returned true
 * @err: the result of the walk: 0; -EBUSY asks for another round; any other error ends the loop
 *
 * This call drops the mmap lock. If an invalidation collided with a walk of the slow path, this
 * call looks up the pages once more under the driver's lock, where no invalidation can start. It
 * brings @f->range.hmm_pfns up to date as hmm_range_fault() would, except that it does not tell the
 * order of a mapping. It does not do so for a range of more than MMU_INVLOCK_LOCKED_PAGES pages,
 * for one with pfn_flags_mask, for one whose start or end the driver has moved, or if some page
 * cannot be looked up in this way. Then the round was undone like any other.
 *
 * Context: the driver's lock is held.
 * Return: true: publish before you drop that lock. False: publish nothing and continue the loop.
 * Since: 0.1
 */
static inline bool mmu_invlock_commit(struct mmu_invlock_fault *f, int err)
{
	lockdep_assert_held(f->inv->lock);
	if (unlikely(err || f->left.slow || f->walk.invalidate_seq ||
		     f->state != MMU_INVLOCK_IN_FLIGHT))
		return mmu_invlock_commit_slow(f, err);
	/* no need to poison the node: nothing reads it again */
	__hlist_del(&f->in_flight);
	f->state = MMU_INVLOCK_DONE;
	mmap_read_unlock(f->walk.mm);
	return true;
}

/**
 * mmu_invlock_fault_end() - release the fault and tell how the loop ended
 * @f: the fault
 *
 * Context: may sleep, because the call may drop the last reference to the mm. Locks: none.
 * Return:
 *	0			the caller has published
 *	-EBUSY			the budgets of the optimistic rounds and of the slow path are spent
 *	-EINTR			the task was killed
 *	-EOWNERDEAD		the mm is gone
 *	-ENOTRECOVERABLE	an invalidation ended that had not started
 *	-EINVAL			the range is empty, wraps or is not aligned to pages; or, with a
 *				warning, the loop was left between attempt and commit
 *	another error		the error of the walk
 * Since: 0.1
 */
static inline int mmu_invlock_fault_end(struct mmu_invlock_fault *f)
{
	if (unlikely(f->state != MMU_INVLOCK_DONE || f->mm_held))
		return mmu_invlock_fault_end_slow(f);
	return f->error;
}

/**
 * mmu_invlock_fault_error() - tell how the loop ended, while its locks are still held
 * @f: the fault
 *
 * A driver may leave the loop by break after a commit that returned true, and need not drop its
 * lock for that. Then it asks here, and calls mmu_invlock_fault_end() once it has dropped the lock.
 * Context: any.
 * Return: as mmu_invlock_fault_end().
 * Since: 0.1
 */
static inline int mmu_invlock_fault_error(const struct mmu_invlock_fault *f)
{
	return f->state == MMU_INVLOCK_DONE ? f->error : -EINVAL;
}

#endif /* MMU_INVLOCK_H */
