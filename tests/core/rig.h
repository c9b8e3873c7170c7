/* SPDX-License-Identifier: MIT */
/* A feed in plain memory, for the tests of core. */
#ifndef INVLOCK_TESTS_CORE_RIG_H
#define INVLOCK_TESTS_CORE_RIG_H

#include <stdlib.h>
#include <string.h>

#include "core/invalidate.h"
#include "core/section.h"

struct test_feed {
	void *mem;
	u64 bytes;
	struct invlock il;
};

static inline void feed_make(struct test_feed *f, u32 nr_words, u32 nr_events)
{
	f->bytes = (invlock_feed_bytes(nr_words, nr_events) + 63) & ~63ULL;
	f->mem = aligned_alloc(64, f->bytes);
	assert_non_null(f->mem);
	memset(f->mem, 0, f->bytes);
	assert_int_equal(invlock_feed_format(f->mem, f->bytes, nr_words, nr_events, 21), 0);
	assert_int_equal(invlock_attach(&f->il, f->mem, f->bytes), 0);
}

static inline void feed_free(struct test_feed *f)
{
	free(f->mem);
}

static inline void feed_change(struct test_feed *f, u64 start, u64 end)
{
	invlock_inv_start(&f->il, start, end, INVLOCK_KIND_UNMAP, 1, 0);
	invlock_inv_end(&f->il, start, end);
}

#endif /* INVLOCK_TESTS_CORE_RIG_H */
