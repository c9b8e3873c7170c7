// SPDX-License-Identifier: MIT
/* What a cache has registered, for people who debug. */
#include <errno.h>

#include "cache_internal.h"
#include "thread.h"

/* Locks: held, and r->held says whether it is pinned */
static struct invlock_cache_entry entry_of(const struct invlock_cache *cache,
					   const struct region *r)
{
	struct invlock_cache_entry e = {
		.addr = (void *)(unsigned long)r->start,
		.len = r->end - r->start,
		.handle = r->handle,
	};
	u8 sort = port_load(&r->sort);

	e.flags = (region_is_filed(r) ? 0 : INVLOCK_ENTRY_DEAD) |
		  (r->held ? INVLOCK_ENTRY_PINNED : 0) |
		  (sort == REGION_READ_ONLY ? INVLOCK_ENTRY_READ : 0);
	if (sort == REGION_KEYED) {
		e.flags |= INVLOCK_ENTRY_KEYED;
		e.key = port_load(region_key(cache->keys, cache->pool.regions, r));
	}
	return e;
}

/* A region that is being registered just now is live, but not yet filed, and has no handle. */
static bool is_listed(const struct region *r)
{
	return region_is_filed(r) || port_load(&r->state) == REGION_DEAD;
}

int invlock_cache_list(struct invlock_cache *cache, struct invlock_cache_entry *ret_entries,
		       unsigned int nr)
{
	struct region_pool *pool;
	u32 nr_listed = 0;

	if (!cache || (nr && !ret_entries))
		return -EINVAL;
	if (!cache_alive(cache))
		return -EOWNERDEAD;
	pool = &cache->pool;
	cache_lock(cache);
	for (u32 i = 0; i < pool->nr_used; i++)
		pool->regions[i].held = false;
	pins_mark(thread_registry, pool);
	for (u32 i = 0; i < pool->nr_used; i++) {
		const struct region *r = &pool->regions[i];

		if (!is_listed(r))
			continue;
		if (nr_listed < nr)
			ret_entries[nr_listed] = entry_of(cache, r);
		nr_listed++;
	}
	cache_unlock(cache);
	return (int)nr_listed;
}
