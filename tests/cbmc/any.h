/* SPDX-License-Identifier: MIT */
/*
 * core, compiled for CBMC with the primitives of core/port_sim.h.
 *
 * A proof is a function. CBMC runs it with every value that any_u64() can return, and searches for
 * one that breaks a claim(). If it cannot see the end of a loop, the proof fails.
 */
#ifndef INVLOCK_TESTS_CBMC_ANY_H
#define INVLOCK_TESTS_CBMC_ANY_H

#include "core/port.h"

u64 nondet_u64(void);	/* CBMC knows this name: it returns any value */
#define any_u64()		nondet_u64()

#define assume(cond)		__CPROVER_assume(cond)
#define claim(cond, sentence)	__CPROVER_assert(cond, sentence)

#endif /* INVLOCK_TESTS_CBMC_ANY_H */
