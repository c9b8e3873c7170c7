// SPDX-License-Identifier: MIT
/* Twins: a region that another thread is registering, and that would do for a get as well. */
#include "cache_internal.h"

/* Locks: held */
static bool is_coming(const struct invlock_cache *cache, u64 start, u64 end, enum region_sort sort,
		      u64 key)
{
	const struct region_pool *pool = &cache->pool;

	for (u32 i = 0; cache->nr_coming && i < pool->nr_used; i++) {
		const struct region *r = &pool->regions[i];

		if (port_load(&r->state) != REGION_LIVE || region_is_filed(r) ||
		    r->start > start || r->end < end || port_load(&r->sort) != sort)
			continue;
		if (sort != REGION_KEYED ||
		    port_load(region_key(cache->keys, pool->regions, r)) == key)
			return true;
	}
	return false;
}

void cache_wait_for_twin(struct invlock_cache *cache, u64 start, u64 end, enum region_sort sort,
			 u64 key)
{
	u64 begun = port_now(), time_ns = cache_time_ns(cache);
	bool coming = !cache_in_callback;

	for (u32 waits = 0; coming && port_now() - begun < time_ns; waits++) {
		port_wait(waits, false);
		cache_lock(cache);
		coming = is_coming(cache, start, end, sort, key);
		cache_unlock(cache);
	}
}
