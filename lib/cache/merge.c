// SPDX-License-Identifier: MIT
/*
 * Merging: a registration that a miss makes also covers those that it overlaps or adjoins, and
 * takes their place. Each region is still made by one read section around one registration: nothing
 * is inferred from the regions that it replaces, which may be stale.
 */
#include "cache_internal.h"

/* Locks: held */
void cache_each_overlap_locked(struct invlock_cache *cache, u64 start, u64 end,
			       void (*each)(struct region *r, void *arg), void *arg)
{
	struct region_pool *pool = &cache->pool;

	if (index_nr_probes(&cache->index, start, end) <= pool->nr_used) {
		index_overlaps(&cache->index, start, end, each, arg);
		return;
	}
	for (u32 i = 0; i < pool->nr_used; i++) {
		struct region *r = &pool->regions[i];

		if (region_is_filed(r) && r->start < end && start < r->end)
			each(r, arg);
	}
}

struct merge {
	struct invlock_cache *cache;
	enum region_sort sort;
	u64 key;
	u64 start, end;			/* so far */
	const struct region *by;	/* what takes the place of others */
	u32 nr;
};

/* Does it serve the same gets? */
static bool is_alike(const struct merge *m, const struct region *r)
{
	const struct invlock_cache *cache = m->cache;

	return port_load(&r->sort) == m->sort && (m->sort != REGION_KEYED ||
	       port_load(region_key(cache->keys, cache->pool.regions, r)) == m->key);
}

/* Locks: held */
static void widen(struct region *r, void *arg)
{
	struct merge *m = arg;
	u64 start = r->start < m->start ? r->start : m->start;
	u64 end = r->end > m->end ? r->end : m->end;

	if (end - start > m->cache->options.max_merged || !is_alike(m, r))
		return;
	m->start = start;
	m->end = end;
}

bool cache_widen(struct invlock_cache *cache, enum region_sort sort, u64 key, u64 *start, u64 *end)
{
	struct merge m = { .cache = cache, .sort = sort, .key = key, .start = *start, .end = *end };

	if (!cache->options.max_merged)
		return false;
	cache_lock(cache);
	/* one byte more on each side is the page that adjoins */
	cache_each_overlap_locked(cache, *start - 1, *end + 1, widen, &m);
	cache_unlock(cache);
	if (m.start == *start && m.end == *end)
		return false;
	*start = m.start;
	*end = m.end;
	return true;
}

/* Locks: held */
static void replace(struct region *r, void *arg)
{
	struct merge *m = arg;

	if (r == m->by || r->start < m->start || r->end > m->end || !is_alike(m, r))
		return;
	cache_kill_locked(m->cache, r);
	m->nr++;
}

u32 cache_replace_locked(struct invlock_cache *cache, struct region *r, u64 key)
{
	struct merge m = {
		.cache = cache, .sort = r->sort, .key = key, .start = r->start, .end = r->end,
		.by = r,
	};

	if (cache->options.max_merged)
		cache_each_overlap_locked(cache, r->start, r->end, replace, &m);
	cache->stats.merged += m.nr;
	return m.nr;
}
