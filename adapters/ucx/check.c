// SPDX-License-Identifier: MIT
/*
 * The check. It is a cache of invlock that registers nothing: its reg() tells UCX to forget the
 * range. So what is valid in it is what has not changed since UCX was told, and UCX has registered
 * later than that.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <ucm/api/ucm.h>
#include <invlock/cache.h>
#include <invlock/ucx.h>

#include "adapters/common.h"

static struct invlock_cache *cache;	/* written by the first check; NULL = nobody can say */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t nr_checks, nr_forgotten, nr_unknown;	/* atomics */

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* UCX's caches see an unmapping, although the memory stays. */
static void forget(const void *addr, size_t len)
{
	count(&nr_forgotten);
	ucm_vm_munmap((void *)addr, len);
}

static int reg(__attribute__((unused)) void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	forget(addr, len);
	*ret_handle = 0;
	return 0;
}

static void dereg(__attribute__((unused)) void *ctx, __attribute__((unused)) void *addr,
		  __attribute__((unused)) size_t len, __attribute__((unused)) uint64_t handle)
{
}

static void open_once(void)
{
	struct invlock_mm_options watch = {
		.size = sizeof(watch), .need = INVLOCK_KINDS_DEFAULT,
	};
	/* nothing is pinned by what is dead here, so no thread has to look for it */
	struct invlock_cache_options options = {
		.size = sizeof(options), .flags = INVLOCK_CACHE_NO_REAPER, .ops = { reg, dereg },
	};
	struct invlock_mm *mm;
	struct invlock_why why;

	if (invlock_mm_open(&watch, &mm, &why)) {
		fprintf(stderr, "invlock: UCX registers memory for each operation: %s\n", why.text);
		return;
	}
	if (invlock_cache_open(mm, &options, &cache, &why))
		fprintf(stderr, "invlock: UCX registers memory for each operation: %s\n", why.text);
	/* the cache holds it */
	invlock_mm_close(mm);
}

int invlock_ucx_check(const void *addr, size_t len)
{
	struct invlock_pin pin;
	int err = -ENOTRECOVERABLE;

	if (!len || !addr)
		return 0;
	pthread_once(&once, open_once);
	count(&nr_checks);
	if (cache)
		err = invlock_cache_get(cache, addr, len, 0, &pin);
	if (!err)
		return invlock_cache_put(&pin);
	count(&nr_unknown);
	forget(addr, len);
	return err;
}

int invlock_ucx_stats(struct invlock_ucx_stats *ret_stats)
{
	struct invlock_ucx_stats s = {
		.checks = __atomic_load_n(&nr_checks, __ATOMIC_RELAXED),
		.forgotten = __atomic_load_n(&nr_forgotten, __ATOMIC_RELAXED),
		.unknown = __atomic_load_n(&nr_unknown, __ATOMIC_RELAXED),
	};

	return ret_stats ? results_out(ret_stats, &s, sizeof(s)) : -EINVAL;
}
