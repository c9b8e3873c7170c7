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

#define FAKE_HANDLES	(1 << 20)

struct fake_device {
	unsigned int nr_reg, nr_dereg, nr_live;	/* atomics */
	unsigned int nr_wrong;			/* calls for a handle that was not registered */
	int fail_with;				/* the next reg() fails with this */
	unsigned int fail_times;
	void (*during_reg)(struct fake_device *fake, void *addr, size_t len);
	void (*during_dereg)(struct fake_device *fake, void *addr, size_t len);
	struct invlock_cache *cache;
	struct invlock_mm *mm;
	unsigned char live[FAKE_HANDLES];
};

static inline int fake_reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	struct fake_device *fake = ctx;
	unsigned int handle;

	if (fake->fail_times) {
		fake->fail_times--;
		return fake->fail_with;
	}
	if (fake->during_reg)
		fake->during_reg(fake, addr, len);
	handle = __atomic_add_fetch(&fake->nr_reg, 1, __ATOMIC_RELAXED) % FAKE_HANDLES;
	__atomic_add_fetch(&fake->nr_live, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&fake->live[handle], 1, __ATOMIC_RELAXED);
	*ret_handle = handle;
	return 0;
}

static inline void fake_dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	struct fake_device *fake = ctx;

	if (!__atomic_exchange_n(&fake->live[handle], 0, __ATOMIC_RELAXED))
		__atomic_add_fetch(&fake->nr_wrong, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&fake->nr_dereg, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&fake->nr_live, 1, __ATOMIC_RELAXED);
	if (fake->during_dereg)
		fake->during_dereg(fake, addr, len);
}

static inline bool fake_is_live(struct fake_device *fake, uint64_t handle)
{
	return __atomic_load_n(&fake->live[handle], __ATOMIC_RELAXED);
}

/* Opens a manual mm, and over it a cache of the fake device; options may be NULL. */
static inline void fake_open(struct fake_device *fake, const struct invlock_cache_options *options)
{
	struct invlock_mm_options mo = { .size = sizeof(mo), .monitor = "manual" };
	struct invlock_cache_options co = { .size = sizeof(co) };

	if (options)
		co = *options;
	/* what is dead stays so until the test says otherwise */
	if (!(co.flags & INVLOCK_CACHE_REAPER))
		co.flags |= INVLOCK_CACHE_NO_REAPER;
	co.ops = (struct invlock_cache_ops){ fake_reg, fake_dereg };
	co.ctx = fake;
	*fake = (struct fake_device){};
	assert_int_equal(invlock_mm_open(&mo, &fake->mm, NULL), 0);
	assert_int_equal(invlock_cache_open(fake->mm, &co, &fake->cache, NULL), 0);
}

static inline void fake_close(struct fake_device *fake)
{
	assert_int_equal(invlock_cache_close(fake->cache), 0);
	invlock_mm_close(fake->mm);
	assert_int_equal(fake->nr_wrong, 0);
	assert_int_equal(fake->nr_live, 0);
	assert_int_equal(fake->nr_reg, fake->nr_dereg);
}

static inline void fake_change(struct fake_device *fake, const void *addr, size_t len)
{
	if (invlock_manual_start(fake->mm, addr, len) || invlock_manual_end(fake->mm, addr, len))
		abort();
}

static inline struct invlock_cache_stats fake_stats(struct fake_device *fake)
{
	struct invlock_cache_stats s = { .size = sizeof(s) };

	assert_int_equal(invlock_cache_stats(fake->cache, &s), 0);
	return s;
}

#endif /* INVLOCK_TESTS_LIB_RIG_H */
