/* SPDX-License-Identifier: MIT */
#ifndef INVLOCK_TESTS_SIM_CASES_H
#define INVLOCK_TESTS_SIM_CASES_H

#include "core/invlock.h"
#include "sim.h"

/* Each list ends with a case that has no name. */
extern const struct sim_case lock_cases[], blind_cases[], cache_cases[];

/* the write side without atomics, under a lock of the writers */
void serial_inv_start(const struct invlock *il, u64 start, u64 end);
void serial_inv_end(const struct invlock *il, u64 start, u64 end);
void serial_close_feed(const struct invlock *il, u64 flag);

#endif /* INVLOCK_TESTS_SIM_CASES_H */
