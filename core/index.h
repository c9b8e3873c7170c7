/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The index: from an address to the region that covers it.
 *
 * A region of up to 2^k pages has class k and is filed under each aligned block
 * of 2^k pages that it touches: one or two. A lookup probes one block in each
 * class that is in use, of those large enough; mostly that is one probe. Regions
 * may overlap.
 *
 * Buckets are open-addressed words: tag << 32 | region_id. Lookups take no lock
 * and write only to the calling thread's record; changes run under the cache's
 * lock. A table that is full is replaced, and freed when pins_walk_table() says
 * that nobody walks it.
 */
#ifndef INVLOCK_CORE_INDEX_H
#define INVLOCK_CORE_INDEX_H

#include "pin.h"

#define INDEX_PAGE_SHIFT	12

struct index_table {
	u32 bits;		/* log2 of the number of buckets */
	u32 nr_filled;		/* buckets not empty, removed ones included; cache lock */
	u32 nr_removed;		/* cache lock */
	struct index_table *retired;	/* for whoever keeps replaced tables; cache lock */
	u64 buckets[];
};

struct index {
	struct index_table *table;	/* replaced with release */
	const struct region_pool *pool;	/* constant */
	u64 classes;			/* bit k: a region of class k may be filed */
};

/* bytes of a table with 2^bits buckets */
static inline u64 index_table_bytes(u32 bits)
{
	return sizeof(struct index_table) + (sizeof(u64) << bits);
}

/* may a region be inserted without filling the table beyond its limit? */
bool index_has_room(const struct index_table *table);

/* bits for a table that holds what this one does, with room to grow */
u32 index_next_bits(const struct index_table *table);

/* Locks: the cache's. index_has_room() was true. */
void index_insert(struct index *ix, struct region *r);
void index_remove(struct index *ix, struct region *r);

/**
 * index_replace() - file everything in a new table
 * @ix: the index
 * @table: zeroed but for bits
 *
 * Locks: the cache's. Return: the old table, to be freed once port_heavy_barrier() has
 * run and pins_walk_table() is false. Since: 0.1
 */
struct index_table *index_replace(struct index *ix, struct index_table *table);

/**
 * index_find() - the region that covers [start, end)
 * @ix: the index
 * @self: the calling thread's record
 * @slot: an empty slot of it; on success it holds the region, which is pinned
 * @start: first byte
 * @end: the byte after the last
 *
 * Context: any, never waits. Locks: none.
 * Return: a region, not validated; NULL = none, the slot is empty. Since: 0.1
 */
struct region *index_find(const struct index *ix, struct pin_thread *self,
			  struct pin_slot *slot, u64 start, u64 end);

#endif /* INVLOCK_CORE_INDEX_H */
