/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * A region: one cached translation, and the pool that regions live in.
 *
 * Life:  FREE -> LIVE    translated, found by lookups (region_pool_take, then index_insert)
 *	  LIVE -> DEAD    unlinked from the index, perhaps still pinned
 *	  DEAD -> FREE    no pin left, deregistered
 * All of it happens under the cache's lock. A thread that has pinned a region
 * reads it without.
 */
#ifndef INVLOCK_LIB_CACHE_REGION_H
#define INVLOCK_LIB_CACHE_REGION_H

#include "core/read.h"

/* what a region is called outside the pool: its place + 1; 0 is none */
typedef u32 region_id;

enum region_state { REGION_FREE, REGION_LIVE, REGION_DEAD };

/* which gets a region serves */
enum region_sort {
	REGION_FULL,		/* those without a key */
	REGION_READ_ONLY,	/* of these, the ones for a device that only reads */
	REGION_KEYED,		/* those with the key of region_key() */
};

struct region {
	u64 start;			/* written before the region is in the index */
	u64 end;
	u64 handle;			/* the user's */
	struct invlock_snapshot snap;	/* refreshed by readers, see read.h */
	/*
	 * invlock_only_word() of the region while it is in the index, else region_gone. So one load
	 * tells region_hit() whether the region is still there, and what to compare.
	 */
	const u64 *word;		/* written under the cache lock */
	region_id next;			/* free or dead list; cache lock */
	u8 state;			/* written under the cache lock, read with port_load */
	u8 referenced;			/* set by hits, cleared by the clock's hand */
	u8 held;			/* scratch of a pin scan; cache lock */
	u8 alone;			/* serves one pin, never in the index; set before it */
	u8 sort;			/* enum region_sort; set before word */
} __attribute__((aligned(64)));

/* The value of region.word while the region is not in the index. It is never quiet. */
extern const u64 region_gone;

/* is it in the index? Then it is live. Locks: the cache's */
static inline bool region_is_filed(const struct region *r)
{
	return port_load(&r->word) != &region_gone;
}

/* guarded by the cache's lock, but for regions and keys, which are constant */
struct region_pool {
	struct region *regions;
	u64 *keys;		/* of each region, by its place; NULL = no region has one */
	u32 capacity;
	u32 nr_used;		/* places ever taken */
	u32 nr_live;
	u32 nr_dead;
	u32 nr_registered;	/* live or dead, also those that are on no list */
	u64 bytes;		/* of all that is registered, live or dead */
	region_id free;
	region_id dead;		/* perhaps pinned */
	region_id unused;	/* dead and not pinned */
	u32 hand;		/* the clock's */
};

static inline struct region *region_at(const struct region_pool *pool, region_id id)
{
	return &pool->regions[id - 1];
}

static inline region_id region_id_of(const struct region_pool *pool, const struct region *r)
{
	return (region_id)(r - pool->regions) + 1;
}

/* start is any number, len is 1 to 2^62 */
static inline bool region_covers(const struct region *r, u64 start, u64 len)
{
	/* signed: a range that wraps begins below every region */
	return (long long)start >= (long long)r->start && start + len <= r->end;
}

/**
 * region_hit() - does a region that a bucket named serve a lookup?
 * @il: the feed
 * @r: a slot of the caller holds it, and port_light_barrier() has run since
 * @start: first byte; any number
 * @len: bytes, 1 to 2^62
 *
 * Return: true = it is in the index, covers the range and is valid; false is
 * inconclusive: call region_hit_slow(). Since: 0.1
 */
__attribute__((__always_inline__))
static inline bool region_hit(const struct invlock *il, const struct region *r, u64 start, u64 len)
{
	/*
	 * The word first. The thread that takes the region out of the index changes the word
	 * before its heavy barrier. So either we see that, or it sees our pin and the region is
	 * not reused under us.
	 * Acquire: if it was reused before, all that follows is of the new one; pairs with the
	 * release in index_insert().
	 */
	const u64 *word = port_load_acquire(&r->word);

	/* before the range: if the word is region_gone, the rest may be being written */
	if (unlikely(!invlock_word_unmoved(il, &r->snap, word)))
		return false;
	return likely(region_covers(r, start, len));
}

/*
 * May the device write to it? To be asked after region_hit() or region_hit_slow() has said yes: a
 * region that was reused after its bucket was read may be of the other sort.
 */
static inline bool region_is_writable(const struct region *r)
{
	return likely(!port_load(&r->sort));
}

/* Beside the regions, so that a region stays one cache line. @keys, @regions: the pool's */
static inline u64 *region_key(u64 *keys, const struct region *regions, const struct region *r)
{
	return &keys[r - regions];
}

/* Is it for this key? To be asked as region_is_writable(). */
static inline bool region_has_key(u64 *keys, const struct region *regions, const struct region *r,
				  u64 key)
{
	return likely(port_load(&r->sort) == REGION_KEYED) &&
	       likely(port_load(region_key(keys, regions, r)) == key);
}

/* The slow path: also right for a region in several stripes, and after some word has moved. */
bool region_hit_slow(const struct invlock *il, struct region *r, u64 start, u64 len);

/* memory: capacity zeroed regions, 64-byte aligned */
/* keys: NULL, or capacity words */
void region_pool_init(struct region_pool *pool, void *memory, u64 *keys, u32 capacity);

/* Return: a LIVE region that no other thread knows yet; NULL when all are taken */
struct region *region_pool_take(struct region_pool *pool, u64 start, u64 end);

/* Not yet in the index. A late lookup may still read these fields: its check fails. */
static inline void region_validated(struct region *r, const struct invlock_snapshot *snap)
{
	port_store(&r->snap.sequence, snap->sequence);
	port_store(&r->snap.words, snap->words);
}

/* LIVE -> DEAD; the caller has unlinked it from the index */
void region_pool_kill(struct region_pool *pool, struct region *r);

/* DEAD -> FREE; the caller has taken it off its list and deregistered it */
void region_pool_give(struct region_pool *pool, struct region *r);

/* LIVE -> FREE, for a region that was never filed nor pinned */
void region_pool_drop(struct region_pool *pool, struct region *r);

/*
 * The next region of the index to evict, by the clock: one that was hit since the hand
 * last passed is spared once. Whether it is pinned, the caller finds out.
 * Return: NULL when there is none.
 */
struct region *region_pool_victim(struct region_pool *pool);

#endif /* INVLOCK_LIB_CACHE_REGION_H */
