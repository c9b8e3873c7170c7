/* SPDX-License-Identifier: MIT */
#ifndef INVLOCK_TESTS_SIM_CASES_H
#define INVLOCK_TESTS_SIM_CASES_H

#include "sim.h"

/* end with an entry without a name */
extern const struct sim_case lock_cases[], cache_cases[];

#endif /* INVLOCK_TESTS_SIM_CASES_H */
