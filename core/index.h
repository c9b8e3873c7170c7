/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The index: from an address to the region that covers it.
 *
 * A region of up to 2^k pages has class k and is filed under each aligned block
 * of 2^k pages that it touches: one or two. A lookup probes one block in each
 * class that is in use, of those large enough; mostly that is one probe. Regions
 * may overlap.
 *
 * Buckets are open-addressed words: a tag and a region_id. They are small, so that
 * of the two cache lines that a hit must read, this one is likely near. Lookups take
 * no lock and write only to the calling thread's record; changes run under the
 * cache's lock. A table that is full is replaced, and freed when pins_walk_table()
 * says that nobody walks it. A thread walks the table of its latest lookup until
 * its next one: as long as the table stays, it need not say so again.
 */
#ifndef INVLOCK_CORE_INDEX_H
#define INVLOCK_CORE_INDEX_H

#include "pin.h"

#define INDEX_PAGE_SHIFT	12

/* a bucket: bits of the hash, a region_id; 0 = empty */
#define INDEX_ID_MASK		((1U << 25) - 1)

struct index_table {
	u32 bits;		/* log2 of the number of buckets */
	u32 nr_filled;		/* buckets not empty, removed ones included; cache lock */
	u32 nr_removed;		/* cache lock */
	struct index_table *retired;	/* for whoever keeps replaced tables; cache lock */
	u32 buckets[];
};

struct index {
	struct index_table *table;	/* replaced with release */
	struct region *regions;		/* the pool's; constant */
	const struct region_pool *pool;	/* constant */
	u64 classes;			/* bit k: a region of class k may be filed */
};

/* bytes of a table with 2^bits buckets */
static inline u64 index_table_bytes(u32 bits)
{
	return sizeof(struct index_table) + (sizeof(u32) << bits);
}

/* an empty table, which a first lookup may walk */
static inline void index_init(struct index *ix, struct index_table *table,
			      const struct region_pool *pool)
{
	*ix = (struct index){ .table = table, .regions = pool->regions, .pool = pool };
}

/* may a region be inserted without filling the table beyond its limit? */
bool index_has_room(const struct index_table *table);

/* bits for a table that holds what this one does, with room to grow */
u32 index_next_bits(const struct index_table *table);

/* Locks: the cache's. index_has_room() was true. */
void index_insert(struct index *ix, struct region *r);
void index_remove(struct index *ix, struct region *r);

/* buckets that index_overlaps() looks at, at least */
u64 index_nr_probes(const struct index *ix, u64 start, u64 end);

/* call @each for every region that overlaps [start, end); it may remove that one. Locks: same */
void index_overlaps(struct index *ix, u64 start, u64 end,
		    void (*each)(struct region *r, void *arg), void *arg);

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

/* the smallest k so that 2^k pages are at least len */
static inline u32 index_class_of(u64 len)
{
	u64 pages = (len - 1) >> INDEX_PAGE_SHIFT;

	return pages ? 64 - (u32)__builtin_clzll(pages) : 0;
}

static inline u64 index_block_of(u64 addr, u32 class)
{
	return addr >> (INDEX_PAGE_SHIFT + class);
}

static inline u64 index_hash_of(u64 block, u32 class)
{
	return (block ^ (u64)class << 57) * 0x9e3779b97f4a7c15ULL;
}

static inline u64 index_first_bucket(const struct index_table *t, u64 hash)
{
	return hash >> (64 - t->bits);
}

static inline u32 index_tag_of(u64 hash)
{
	return (u32)hash & ~INDEX_ID_MASK;
}

/* the region that a bucket names under this tag; NULL = another tag, or no region */
static inline struct region *index_named(const struct index *ix, u32 word, u32 tag)
{
	u32 at = (word ^ tag) - 1;

	return at < INDEX_ID_MASK ? &ix->regions[at] : NULL;
}

/**
 * index_find_first() - the short way of index_find(): one class, one bucket
 *
 * As long as the table is that of the thread's latest lookup, and nearly always enough.
 * Return: as index_find(); but NULL says nothing, and the slot may not be empty then.
 * Since: 0.1
 */
static inline struct region *index_find_first(const struct index *ix, struct pin_thread *self,
					      struct pin_slot *slot, u64 start, u64 end)
{
	const struct index_table *t = port_load(&ix->table);
	u64 classes = port_load(&ix->classes) & ~0ULL << index_class_of(end - start);
	const u32 *bucket;
	struct region *r;
	u32 class, word;
	u64 hash;

	/* that lookup has read it with acquire, and told those who free tables, with a barrier */
	if (unlikely(port_load(&self->table) != t || !classes))
		return NULL;
	class = (u32)__builtin_ctzll(classes);
	hash = index_hash_of(index_block_of(start, class), class);
	bucket = &t->buckets[index_first_bucket(t, hash)];
	/* from here on as in probe(); but here nothing follows from what is not found */
	word = port_load(bucket);
	r = index_named(ix, word, index_tag_of(hash));
	if (unlikely(!r))
		return NULL;
	/* the slot was empty: there is nothing that was read under an older pin */
	port_store(&slot->region, r);
	port_light_barrier();
	if (unlikely(port_load_acquire(bucket) != word || start < r->start || r->end < end))
		return NULL;
	return r;
}

#endif /* INVLOCK_CORE_INDEX_H */
