/* SPDX-License-Identifier: GPL-2.0-only */
/* What the sources of drill.ko share. */
#ifndef INVLOCK_TESTS_VM_DRILL_FILE_H
#define INVLOCK_TESTS_VM_DRILL_FILE_H

#include <linux/mutex.h>
#include <linux/spinlock.h>

#include "drill.h"
#include "kmod/mmu_invlock.h"

/* one open file */
struct drill_file {
	struct mmu_invlock inv;
	spinlock_t lock;
	struct mm_struct *mm;		/* held with mmgrab(), for use after unregistering */
	struct mutex life;		/* guards registered and idle_registered */
	bool registered;
	struct mmu_notifier idle;
	bool idle_registered;
	u64 hold_us, hold_start, hold_end;		/* guarded by lock */
	u64 holds;					/* how many DRILL_HOLD; guarded by lock */
	/* guarded by lock */
	u64 held, starts, atomic_starts, faults, held_faults, dropped;
	struct rcu_head rcu;
};

/* Add to one of the counts that d->lock guards. */
void drill_add(struct drill_file *d, u64 *count, int nr);

/* Wait in a fault until the time is over, the notifier is unregistered or there is a DRILL_HOLD. */
void drill_hold_fault(struct drill_file *d, u64 us);

/* Carry out DRILL_FAULT with DRILL_ANY. Return: the result of the fault. */
int drill_fault_any(struct drill_file *d, struct drill *arg);

#endif /* INVLOCK_TESTS_VM_DRILL_FILE_H */
