/* SPDX-License-Identifier: MIT */
/*
 * The cache of cases_cache.c: one region, two records of threads, two tables; and other states in
 * which a case may begin.
 */
#ifndef INVLOCK_TESTS_SIM_CACHE_RIG_H
#define INVLOCK_TESTS_SIM_CACHE_RIG_H

#include <string.h>

#include "cases.h"
#include "lib/cache/index.h"

#define AT(page)	((u64)(page) << 12)
#define BITS		3	/* the bits of a table's size */
#define REGIONS		3
#define GONE		0xdeadULL
#define KEY		1ULL
#define OTHER_KEY	2ULL	/* under the same tag, so that it is the key that decides */

static struct index *ix;
static struct region_pool *pool;
static struct pin_registry *registry;
static struct pin_thread *records[2];
static struct index_table *tables[2];
static struct invlock il;
static struct pin_chunk *chunk;
static u32 *lock, *device, *flags;
static u32 chained;

static struct region *file_as(u32 page, u64 start, u64 end, enum region_sort sort)
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
	port_store(&r->sort, (u8)sort);
	index_insert(ix, r, invlock_only_word(&il, start, end));
	return r;
}

static struct region *file_range(u32 page, u64 start, u64 end)
{
	return file_as(page, start, end, REGION_FULL);
}

/* for page 0 */
static void file_keyed(u64 key)
{
	port_store(&pool->keys[0], key);
	file_as(0, AT(0), AT(1), REGION_KEYED);
}

static void file_read_only(u32 page)
{
	file_as(page, AT(page), AT(page + 1), REGION_READ_ONLY);
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
	region_pool_init(pool, sim_alloc(REGIONS * sizeof(struct region)),
			 sim_alloc(REGIONS * sizeof(u64)), REGIONS);
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

/* The record's thread has walked the table before, so it takes the fast path. */
static void walks_already(void)
{
	make_cache();
	records[0]->table = tables[0];
}

static bool is_settled(__attribute__((unused)) void *arg)
{
	return true;
}

/* In addition, the region has no single word that decides. */
static void walks_already_and_asks(void)
{
	walks_already();
	il.settle = is_settled;
	index_remove(ix, &pool->regions[0]);
	index_insert(ix, &pool->regions[0], invlock_only_word(&il, AT(0), AT(1)));
}

static void two_threads(void)
{
	make_cache();
	pin_thread_add(registry, records[1]);
}

/* Page 0 and another page share a chain of buckets; the other page comes second. */
static void two_in_a_chain(void)
{
	struct region *r;

	make_cache();
	/* Which page begins at the bucket of page 0? The other table tells. */
	ix->table = tables[1];
	for (chained = 1; ; chained++) {
		bool found;

		r = file(chained);
		found = tables[1]->buckets[0];
		index_remove(ix, r);
		region_pool_drop(pool, r);
		memset(tables[1], 0, index_table_bytes(BITS));
		index_table_init(tables[1], BITS);
		if (found)
			break;
	}
	ix->table = tables[0];
	file(chained);
}

/* Two regions of the same page, and so with the same tag, next to each other. */
static void two_halves(void)
{
	make_cache();
	index_remove(ix, &pool->regions[0]);
	region_pool_drop(pool, &pool->regions[0]);
	memset(tables[0], 0, index_table_bytes(BITS));
	index_table_init(tables[0], BITS);
	file_range(0, AT(0), AT(1) / 2);
	file_range(0, AT(1) / 2, AT(1));
	records[0]->table = tables[0];
}

static void record_is_free(void)
{
	make_cache();
	pin_thread_release(records[0]);
}

static void nobody_is_registered(void)
{
	make_cache();
	registry->threads = NULL;
}

static void with_page_1(void)
{
	make_cache();
	file(1);
}

static void slots_are_taken(void)
{
	struct region *other;

	make_cache();
	chunk = sim_alloc(sizeof(*chunk));
	sim_name(chunk, sizeof(*chunk), "chunk");
	other = file(2);
	for (u32 i = 0; i < PIN_SLOTS; i++)
		records[0]->chunk.slots[i].region = other;
}

static void barrier_fails(void)
{
	make_cache();
	sim_barrier_may_fail();
}
#endif /* INVLOCK_TESTS_SIM_CACHE_RIG_H */
