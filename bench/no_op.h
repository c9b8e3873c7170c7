/* SPDX-License-Identifier: MIT */
/* Caches whose registration costs nothing, so that a measurement shows the cost of the cache. */
#ifndef INVLOCK_BENCH_NO_OP_H
#define INVLOCK_BENCH_NO_OP_H

#include <invlock/cache.h>

#include "tests/page.h"

static inline int no_op_reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx, (void)len;
	*ret_handle = (uintptr_t)addr;
	return 0;
}

static inline void no_op_dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx, (void)addr, (void)len, (void)handle;
}

/* The reaper would look at regions while they are measured. */
#define NO_OP_OPTIONS							\
	{								\
		.size = sizeof(struct invlock_cache_options),		\
		.flags = INVLOCK_CACHE_NO_REAPER,			\
		.ops = { no_op_reg, no_op_dereg },			\
	}

/* Put @nr regions of one page into the cache, with a page between each two. */
static inline void no_op_fill(struct invlock_cache *cache, char *at, unsigned int nr)
{
	struct invlock_pin pin;

	for (unsigned int i = 0; i < nr; i++)
		if (!invlock_cache_get(cache, at + 2 * PAGE * i, PAGE, 0, &pin))
			invlock_cache_put(&pin);
}

#endif /* INVLOCK_BENCH_NO_OP_H */
