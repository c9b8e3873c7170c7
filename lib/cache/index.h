/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The index: from an address to the region that covers it.
 *
 * A region of up to 2^k pages has class k and is filed under each aligned block
 * of 2^k pages that it touches: one or two. A lookup probes one block in each
 * class that is in use, of those large enough; mostly that is one probe. Regions
 * may overlap. Regions that the device may only read, and those with a key, lie in the same chain
 * as the others, under other tags: a lookup for another sort meets them and passes them by.
 *
 * Buckets are open-addressed words: a tag and a region_id. They are small, so that
 * of the two cache lines that a hit must read, this one is likely near. Lookups take
 * no lock and write only to the calling thread's record; changes run under the
 * cache's lock. A table that is full is replaced, and freed when pins_walk_table()
 * finds that no thread walks it. A thread walks the table of its latest lookup until
 * it walks another: as long as the table stays, it need not say so again.
 */
#ifndef INVLOCK_LIB_CACHE_INDEX_H
#define INVLOCK_LIB_CACHE_INDEX_H

#include "pin.h"

#define INDEX_PAGE_SHIFT	12

/* a bucket: bits of the hash, a region_id */
#define INDEX_ID_MASK		((1U << 25) - 1)
#define INDEX_EMPTY		0U
/* which regions a lookup wants, and the bits of the tag that tell them apart */
#define INDEX_FULL		0U		/* those that the device may read and write */
#define INDEX_READ_ONLY		(1U << 31)	/* those that it may only read */
#define INDEX_KEYED		(3U << 30)	/* and bits of the key: index_keyed() */
#define INDEX_KEY_SHIFT		26		/* above the bits that choose the first bucket */

struct index_table {
	u32 bits;		/* log2 of the number of buckets */
	u32 mask;		/* their number - 1 */
	u32 nr_filled;		/* buckets not empty, removed ones included; cache lock */
	u32 nr_removed;		/* cache lock */
	struct index_table *retired;	/* the cache's list of replaced tables; cache lock */
	u32 buckets[];
};

struct index {
	struct index_table *table;	/* replaced with release */
	struct region *regions;		/* the pool's; constant */
	const struct region_pool *pool;	/* constant */
	u64 classes;			/* bit k: a region of class k may be filed */
	u64 block_mask;			/* -size of the blocks of the smallest class; ~0 = none */
};

/* bytes of a table with 2^bits buckets */
static inline u64 index_table_bytes(u32 bits)
{
	return sizeof(struct index_table) + (sizeof(u32) << bits);
}

/* memory: zeroed */
static inline struct index_table *index_table_init(void *memory, u32 bits)
{
	struct index_table *t = memory;

	t->bits = bits;
	t->mask = (u32)((1ULL << bits) - 1);
	return t;
}

/* @table: empty */
static inline void index_init(struct index *ix, struct index_table *table,
			      const struct region_pool *pool)
{
	*ix = (struct index){
		.table = table, .regions = pool->regions, .pool = pool, .block_mask = ~0ULL,
	};
}

/* may a region be inserted without filling the table beyond its limit? */
bool index_has_room(const struct index_table *table);

/* bits for a table that holds what this one does, with room to grow */
u32 index_next_bits(const struct index_table *table);

/* @word: invlock_only_word() of the region. Locks: the cache's. index_has_room() was true. */
void index_insert(struct index *ix, struct region *r, const u64 *word);
void index_remove(struct index *ix, struct region *r);

/* buckets that index_overlaps() looks at, at least */
u64 index_nr_probes(const struct index *ix, u64 start, u64 end);

/* call @each for every region that overlaps [start, end); it may remove it. Locks: the cache's */
void index_overlaps(struct index *ix, u64 start, u64 end,
		    void (*each)(struct region *r, void *arg), void *arg);

/**
 * index_replace() - file everything in a new table
 * @ix: the index
 * @table: empty
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
 * @access: INDEX_FULL, INDEX_READ_ONLY or index_keyed(key): no region of another sort is found
 * @key: of a keyed region; otherwise it is ignored
 *
 * Context: any, never waits. Locks: none.
 * Return: a region, not validated; NULL = none, the slot is empty. Since: 0.1
 */
struct region *index_find(const struct index *ix, struct pin_thread *self,
			  struct pin_slot *slot, u64 start, u64 end, u32 access, u64 key);

/* what a lookup wants that has this key */
static inline u32 index_keyed(u64 key)
{
	return INDEX_KEYED | (u32)(key * 0x9e3779b97f4a7c15ULL >> 60) << INDEX_KEY_SHIFT;
}

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

/* of the blocks that begin there, of any class: they share a chain. Its bit INDEX_READ_ONLY is 0 */
static inline u32 index_hash_at(u64 block_start)
{
	return (u32)(block_start * 0x9e3779b97f4a7c15ULL >> 33);
}

static inline u32 index_hash_of(u64 block, u32 class)
{
	return index_hash_at(block << (INDEX_PAGE_SHIFT + class));
}

static inline u32 index_first_bucket(const struct index_table *t, u32 hash)
{
	return hash & t->mask;
}

static inline u32 index_next_bucket(const struct index_table *t, u32 at)
{
	return (at + 1) & t->mask;
}

static inline u32 index_tag_of(u32 hash)
{
	return hash & ~INDEX_ID_MASK;
}

/* the place of the region in a bucket with this tag; too large = another tag, or no region */
static inline u32 index_place(u32 word, u32 tag)
{
	return (word ^ tag) - 1;
}

/* that region, or NULL */
static inline struct region *index_named(const struct index *ix, u32 word, u32 tag)
{
	u32 at = index_place(word, tag);

	return at < INDEX_ID_MASK ? &ix->regions[at] : NULL;
}

/* -size of the blocks of the smallest class in use that has room for @len; 0 = there is none */
static inline u64 index_block_mask(const struct index *ix, u64 len)
{
	u64 sizes = port_load(&ix->classes) << INDEX_PAGE_SHIFT;

	for (; sizes; sizes &= sizes - 1) {
		u64 mask = -(sizes & -sizes);

		if (!((len - 1) & mask))
			return mask;
	}
	return 0;
}

/**
 * index_try_find() - fast path of index_find(): looks in one class, and takes the first match
 * @ix: the index
 * @self: the calling thread's record
 * @start: first byte
 * @len: bytes; any number
 * @access: as index_find(); but the region may be of another sort, or have another key
 * @ret_region: self->slot holds it now; region_hit() decides whether it is the right one. Then @len
 *	is 1 to 2^57
 *
 * As long as the table is that of the thread's latest lookup, and nearly always enough.
 * Return: false is inconclusive: call index_find(); nothing is pinned. Since: 0.1
 */
__attribute__((__always_inline__))
static inline bool index_try_find(const struct index *ix, struct pin_thread *self,
				    u64 start, u64 len, u32 access,
				    struct region **ret_region)
{
	const struct index_table *t = port_load(&ix->table);
	u64 mask = port_load(&ix->block_mask);
	u32 hash, place, at;

	/* that lookup read the table with acquire, and announced it before a barrier */
	if (unlikely(port_load(&self->table) != t))
		return false;
	if (unlikely((len - 1) & mask)) {
		mask = index_block_mask(ix, len);
		if (!mask)
			return false;
	}
	hash = index_hash_at(start & mask) ^ access;
	at = index_first_bucket(t, hash);
	/* acquire: the region was given a word; pairs with the release in file_under() */
	while (unlikely((place = index_place(port_load_acquire(&t->buckets[at]),
					     index_tag_of(hash))) >= INDEX_ID_MASK)) {
		/* reload the bucket and t instead of keeping them live: saves two registers */
		if (port_load(&t->buckets[at]) == INDEX_EMPTY)
			return false;
		t = port_load(&self->table);
		at = index_next_bucket(t, at);
	}
	if (unlikely(!pin_slot_next(self)))
		return false;
	*ret_region = &ix->regions[place];
	/* relaxed: the slot was empty, so no older pin protects what was read */
	port_store(&self->slot->region, *ret_region);
	port_light_barrier();
	return true;
}

#endif /* INVLOCK_LIB_CACHE_INDEX_H */
