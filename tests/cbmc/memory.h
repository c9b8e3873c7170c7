/* SPDX-License-Identifier: MIT */
/* The primitives on memory for a single thread: plain accesses, with which CBMC works best. */
#ifndef INVLOCK_TESTS_CBMC_MEMORY_H
#define INVLOCK_TESTS_CBMC_MEMORY_H

#include "any.h"

#undef SIM_LOAD
#undef SIM_STORE
#undef SIM_FETCH_ADD
#undef SIM_CMPXCHG

#define SIM_LOAD(p, order)	(*(p))
#define SIM_STORE(p, v, order)	((void)(*(p) = (v)))
#define SIM_FETCH_ADD(p, v, order)					\
({									\
	__typeof__(*(p)) __before = *(p);				\
	*(p) = __before + (v);						\
	__before;							\
})
#define SIM_CMPXCHG(p, old, new, order)					\
({									\
	__typeof__(*(p)) __before = *(p);				\
	if (__before == (old))						\
		*(p) = (new);						\
	__before;							\
})

void sim_relax(void)
{
}

#endif /* INVLOCK_TESTS_CBMC_MEMORY_H */
