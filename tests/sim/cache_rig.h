/* SPDX-License-Identifier: MIT */
/* The cache that cases_cache.c is about: one region, two records of threads, two tables. */
#ifndef INVLOCK_TESTS_SIM_CACHE_RIG_H
#define INVLOCK_TESTS_SIM_CACHE_RIG_H

#include "cases.h"
#include "core/index.h"

#define AT(page)	((u64)(page) << 12)
#define BITS		3	/* of a table */
#define REGIONS		3
#define GONE		0xdeadULL

static struct index *ix;
static struct region_pool *pool;
static struct pin_registry *registry;
static struct pin_thread *records[2];
static struct index_table *tables[2];
static struct invlock il;
static struct pin_chunk *chunk;
static u32 *lock, *device, *flags;
static u32 chained;

static struct region *file_range(u32 page, u64 start, u64 end)
{
	struct region *r = region_pool_take(pool, start, end);
	struct invlock_snapshot snap;

	if (!r) {
		sim_fail("no region is left");
		return NULL;
	}
	r->handle = region_id_of(pool, r);
	device[r->handle] = 1 + page;
	SIM_CHECK(!invlock_sample(&il, r->start, r->end, &snap));
	region_validated(r, &snap);
	index_insert(ix, r, invlock_only_word(&il, start, end));
	return r;
}

static struct region *file(u32 page)
{
	return file_range(page, AT(page), AT(page + 1));
}

static void make_cache(void)
{
	u64 bytes = invlock_feed_bytes(2, 0);
	void *feed = sim_alloc(bytes);

	SIM_CHECK(!invlock_feed_format(feed, bytes, 2, 0, 12));
	SIM_CHECK(!invlock_attach(&il, feed, bytes));
	pool = sim_alloc(sizeof(*pool));
	region_pool_init(pool, sim_alloc(REGIONS * sizeof(struct region)), REGIONS);
	for (u32 i = 0; i < 2; i++) {
		tables[i] = index_table_init(sim_alloc(index_table_bytes(BITS)), BITS);
		records[i] = sim_alloc(sizeof(*records[i]));
		records[i]->slot = &records[i]->chunk.slots[0];
		sim_name(records[i], sizeof(*records[i]), i ? "record-1" : "record-0");
		sim_name(tables[i], index_table_bytes(BITS), i ? "table-1" : "table-0");
	}
	ix = sim_alloc(sizeof(*ix));
	index_init(ix, tables[0], pool);
	registry = sim_alloc(sizeof(*registry));
	pin_thread_add(registry, records[0]);
	lock = sim_alloc(sizeof(*lock));
	flags = sim_alloc(4 * sizeof(*flags));
	device = sim_alloc((REGIONS + 1) * sizeof(*device));
	sim_name(pool->regions, REGIONS * sizeof(struct region), "region");
	sim_name(ix, sizeof(*ix), "index");
	sim_name(registry, sizeof(*registry), "registry");
	sim_name(lock, sizeof(*lock), "lock");
	sim_name(flags, 4 * sizeof(*flags), "flag");
	sim_name(device, (REGIONS + 1) * sizeof(*device), "device");
	sim_name(il.words, 16, "word");
	sim_name(&il.feed->sequence, 8, "sequence");
	file(0);
}

#endif /* INVLOCK_TESTS_SIM_CACHE_RIG_H */
