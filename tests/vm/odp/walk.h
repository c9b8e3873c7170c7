/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Included before the first line of the kernel's umem_odp.c, as it is and converted: its faults are
 * counted, and its walks of the page table can be held.
 */
#ifndef ODP_WALK_H
#define ODP_WALK_H

#include <linux/hmm.h>
#include <linux/pid.h>

#include "kmod/mmu_invlock_any.h"

int odp_walk(struct hmm_range *range);
void odp_walk_count_fault(void);

/* a fault looks up its process once, before its first round */
#define get_pid_task(pid, type)	(odp_walk_count_fault(), get_pid_task(pid, type))
#define hmm_range_fault(range)	odp_walk(range)

/* the default number of rounds, in more time than a busy machine needs for them */
#define mmu_invlock_any_init(f, range, budget)						\
	mmu_invlock_any_init(f, range,							\
		&(const struct mmu_invlock_budget){ .time_ns = 3600 * (u64)NSEC_PER_SEC })

#endif /* ODP_WALK_H */
