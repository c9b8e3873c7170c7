/* SPDX-License-Identifier: MIT */
/*
 * A fake device: it registers memory by handing out a number. It counts its calls, can be told to
 * fail, and remembers which numbers are registered, so that a missing or a double deregistration is
 * found.
 */
#ifndef INVLOCK_TESTS_LIB_RIG_H
#define INVLOCK_TESTS_LIB_RIG_H

#include <errno.h>
#include <stdbool.h>
#include <invlock/cache.h>
#include <invlock/manual.h>

#define TOY_HANDLES	(1 << 20)

struct toy {
	unsigned int nr_reg, nr_dereg, nr_live;	/* atomics */
	unsigned int nr_wrong;			/* calls for a handle that was not registered */
	int fail_with;				/* the next reg() fails with this */
	unsigned int fail_times;
	void (*during_reg)(struct toy *toy, void *addr, size_t len);
	void (*during_dereg)(struct toy *toy, void *addr, size_t len);
	struct invlock_cache *cache;
	struct invlock_mm *mm;
	unsigned char live[TOY_HANDLES];
};

static inline int toy_reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	struct toy *toy = ctx;
	unsigned int handle;

	if (toy->fail_times) {
		toy->fail_times--;
		return toy->fail_with;
	}
	if (toy->during_reg)
		toy->during_reg(toy, addr, len);
	handle = __atomic_add_fetch(&toy->nr_reg, 1, __ATOMIC_RELAXED) % TOY_HANDLES;
	__atomic_add_fetch(&toy->nr_live, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&toy->live[handle], 1, __ATOMIC_RELAXED);
	*ret_handle = handle;
	return 0;
}

static inline void toy_dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct toy *toy = ctx;

	if (!__atomic_exchange_n(&toy->live[handle], 0, __ATOMIC_RELAXED))
		__atomic_add_fetch(&toy->nr_wrong, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&toy->nr_dereg, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&toy->nr_live, 1, __ATOMIC_RELAXED);
	if (toy->during_dereg)
		toy->during_dereg(toy, addr, len);
}

static inline bool toy_is_live(struct toy *toy, uint64_t handle)
{
	return __atomic_load_n(&toy->live[handle], __ATOMIC_RELAXED);
}

/* Opens a manual mm, and over it a cache of the fake device; options may be NULL. */
static inline void toy_open(struct toy *toy, const struct invlock_cache_options *options)
{
	struct invlock_mm_options mo = { .size = sizeof(mo), .monitor = "manual" };
	struct invlock_cache_options co = { .size = sizeof(co) };

	if (options)
		co = *options;
	/* what is dead stays so until the test says otherwise */
	if (!(co.flags & INVLOCK_CACHE_REAPER))
		co.flags |= INVLOCK_CACHE_NO_REAPER;
	co.ops = (struct invlock_cache_ops){ toy_reg, toy_dereg };
	co.ctx = toy;
	*toy = (struct toy){};
	assert_int_equal(invlock_mm_open(&mo, &toy->mm, NULL), 0);
	assert_int_equal(invlock_cache_open(toy->mm, &co, &toy->cache, NULL), 0);
}

static inline void toy_close(struct toy *toy)
{
	assert_int_equal(invlock_cache_close(toy->cache), 0);
	invlock_mm_close(toy->mm);
	assert_int_equal(toy->nr_wrong, 0);
	assert_int_equal(toy->nr_live, 0);
	assert_int_equal(toy->nr_reg, toy->nr_dereg);
}

static inline void toy_change(struct toy *toy, const void *addr, size_t len)
{
	if (invlock_manual_start(toy->mm, addr, len) || invlock_manual_end(toy->mm, addr, len))
		abort();
}

static inline struct invlock_cache_stats toy_stats(struct toy *toy)
{
	struct invlock_cache_stats s = { .size = sizeof(s) };

	assert_int_equal(invlock_cache_stats(toy->cache, &s), 0);
	return s;
}

#endif /* INVLOCK_TESTS_LIB_RIG_H */
