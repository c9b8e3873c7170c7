// SPDX-License-Identifier: GPL-2.0-only OR MIT
#include "region.h"

const u64 region_gone = 1;

bool region_hit_slow(const struct invlock *il, struct region *r, u64 start, u64 len)
{
	/* first, and acquire, as in region_hit() */
	if (port_load_acquire(&r->word) == &region_gone)
		return false;
	return region_covers(r, start, len) &&
	       invlock_validate(il, &r->snap, r->start, r->end) == INVLOCK_VALID;
}

void region_pool_init(struct region_pool *pool, void *memory, u64 *keys, u32 capacity)
{
	*pool = (struct region_pool){ .regions = memory, .keys = keys, .capacity = capacity };
}

struct region *region_pool_take(struct region_pool *pool, u64 start, u64 end)
{
	struct region *r;

	if (pool->free) {
		r = region_at(pool, pool->free);
		pool->free = r->next;
	} else if (pool->nr_used < pool->capacity) {
		r = &pool->regions[pool->nr_used++];
	} else {
		return NULL;
	}
	r->start = start;
	r->end = end;
	r->next = 0;
	r->alone = false;
	port_store(&r->word, &region_gone);
	port_store(&r->referenced, (u8)true);
	port_store(&r->state, (u8)REGION_LIVE);
	pool->nr_live++;
	pool->nr_registered++;
	pool->bytes += end - start;
	return r;
}

void region_pool_kill(struct region_pool *pool, struct region *r)
{
	port_store(&r->state, (u8)REGION_DEAD);
	r->next = pool->dead;
	pool->dead = region_id_of(pool, r);
	pool->nr_live--;
	pool->nr_dead++;
}

static void free_region(struct region_pool *pool, struct region *r)
{
	port_store(&r->state, (u8)REGION_FREE);
	pool->nr_registered--;
	pool->bytes -= r->end - r->start;
	r->next = pool->free;
	pool->free = region_id_of(pool, r);
}

void region_pool_give(struct region_pool *pool, struct region *r)
{
	pool->nr_dead--;
	free_region(pool, r);
}

void region_pool_drop(struct region_pool *pool, struct region *r)
{
	pool->nr_live--;
	free_region(pool, r);
}

struct region *region_pool_victim(struct region_pool *pool)
{
	/* two turns: the first clears what hits have set */
	for (u64 step = 0; step < 2 * (u64)pool->nr_used; step++) {
		struct region *r = &pool->regions[pool->hand];

		pool->hand = pool->hand + 1 < pool->nr_used ? pool->hand + 1 : 0;
		if (!region_is_filed(r))
			continue;
		if (!port_load(&r->referenced))
			return r;
		port_store(&r->referenced, (u8)false);
	}
	return NULL;
}
