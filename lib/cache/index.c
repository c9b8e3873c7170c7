// SPDX-License-Identifier: GPL-2.0-only OR MIT
#include "index.h"

#define REMOVED	(INDEX_ID_MASK + 1)	/* a tag, but no region */

bool index_has_room(const struct index_table *t)
{
	return t->nr_filled + 2 <= (1ULL << t->bits) / 4 * 3;
}

u32 index_next_bits(const struct index_table *t)
{
	u32 nr = t->nr_filled - t->nr_removed;

	/* if most of them are removed ones, the same size is enough for the rest */
	return nr + 2 <= (1ULL << t->bits) / 8 * 3 ? t->bits : t->bits + 1;
}

static void file_under(struct index_table *t, u32 hash, region_id id)
{
	u32 at = index_first_bucket(t, hash);
	u32 word;

	while ((word = port_load(&t->buckets[at])) != INDEX_EMPTY && word != REMOVED)
		at = index_next_bucket(t, at);
	if (word == REMOVED)
		t->nr_removed--;
	else
		t->nr_filled++;
	/* release: the region is filled in; pairs with index_find() */
	port_store_release(&t->buckets[at], index_tag_of(hash) | id);
}

static void unfile(struct index_table *t, u32 hash, region_id id)
{
	u32 at = index_first_bucket(t, hash);

	while (port_load(&t->buckets[at]) != (index_tag_of(hash) | id))
		at = index_next_bucket(t, at);
	/* relaxed: after port_heavy_barrier() lookups see it, or we see their pins */
	port_store(&t->buckets[at], REMOVED);
	t->nr_removed++;
}

static u32 access_of(const struct region_pool *pool, const struct region *r)
{
	switch (port_load(&r->sort)) {
	case REGION_READ_ONLY:
		return INDEX_READ_ONLY;
	case REGION_KEYED:
		return index_keyed(port_load(region_key(pool->keys, pool->regions, r)));
	default:
		return INDEX_FULL;
	}
}

static void insert_in(struct index_table *t, const struct index *ix, struct region *r)
{
	u32 class = index_class_of(r->end - r->start);
	u64 last = index_block_of(r->end - 1, class);

	for (u64 block = index_block_of(r->start, class); block <= last; block++)
		file_under(t, index_hash_of(block, class) ^ access_of(ix->pool, r),
			   region_id_of(ix->pool, r));
}

static void set_classes(struct index *ix, u64 classes)
{
	port_store(&ix->classes, classes);
	port_store(&ix->block_mask, classes ?
		   ~0ULL << (INDEX_PAGE_SHIFT + (u32)__builtin_ctzll(classes)) : ~0ULL);
}

void index_insert(struct index *ix, struct region *r, const u64 *word)
{
	u32 class = index_class_of(r->end - r->start);

	set_classes(ix, port_load(&ix->classes) | 1ULL << class);
	/* release: the region is filled in; pairs with region_hit() */
	port_store_release(&r->word, word);
	insert_in(ix->table, ix, r);
}

void index_remove(struct index *ix, struct region *r)
{
	u32 class = index_class_of(r->end - r->start);
	u64 last = index_block_of(r->end - 1, class);

	for (u64 block = index_block_of(r->start, class); block <= last; block++)
		unfile(ix->table, index_hash_of(block, class) ^ access_of(ix->pool, r),
		       region_id_of(ix->pool, r));
	/* relaxed: as in unfile() */
	port_store(&r->word, &region_gone);
}

u64 index_nr_probes(const struct index *ix, u64 start, u64 end)
{
	u64 classes = port_load(&ix->classes), nr = 0;

	for (; classes; classes &= classes - 1) {
		u32 class = (u32)__builtin_ctzll(classes);

		nr += index_block_of(end - 1, class) - index_block_of(start, class) + 1;
	}
	return nr;
}

static void overlaps_in_block(struct index *ix, u32 hash, u64 start, u64 end,
			      void (*each)(struct region *r, void *arg), void *arg)
{
	struct index_table *t = ix->table;
	u32 at = index_first_bucket(t, hash);
	u32 word;

	for (; (word = port_load(&t->buckets[at])) != INDEX_EMPTY; at = index_next_bucket(t, at)) {
		/* under any tag: regions of all sorts share the chain */
		struct region *r = index_named(ix, word & INDEX_ID_MASK, 0);

		if (r && r->start < end && start < r->end)
			each(r, arg);
	}
}

void index_overlaps(struct index *ix, u64 start, u64 end,
		    void (*each)(struct region *r, void *arg), void *arg)
{
	u64 classes = port_load(&ix->classes);

	/* a region that overlaps [start, end) is filed under a block that both touch */
	for (; classes; classes &= classes - 1) {
		u32 class = (u32)__builtin_ctzll(classes);
		u64 last = index_block_of(end - 1, class);

		for (u64 block = index_block_of(start, class); block <= last; block++)
			overlaps_in_block(ix, index_hash_of(block, class), start, end, each, arg);
	}
}

struct index_table *index_replace(struct index *ix, struct index_table *table)
{
	struct index_table *old = ix->table;
	const struct region_pool *pool = ix->pool;
	u64 classes = 0;

	for (u32 i = 0; i < pool->nr_used; i++) {
		struct region *r = &pool->regions[i];

		if (!region_is_filed(r))
			continue;
		classes |= 1ULL << index_class_of(r->end - r->start);
		insert_in(table, ix, r);
	}
	/* release: pairs with the acquire in walk_begin() */
	port_store_release(&ix->table, table);
	/* after the table: a class that is not in it needs no probe */
	set_classes(ix, classes);
	/*
	 * From now on regions are removed from the new table only, so a lookup that is still in the
	 * old one must find nothing there. Release: it then finds the new one; pairs with probe().
	 */
	for (u64 at = 0; at < 1ULL << old->bits; at++)
		port_store_release(&old->buckets[at], INDEX_EMPTY);
	return old;
}

/* protect the table from being freed, until this thread's next lookup in another one */
static const struct index_table *walk_begin(const struct index *ix, struct pin_thread *self)
{
	const struct index_table *t, *again = port_load(&ix->table);

	do {
		t = again;
		port_store_release(&self->table, t);
		port_light_barrier();	/* pairs with port_heavy_barrier(), pins_walk_table() */
		/* acquire: pairs with the release in index_replace() */
		again = port_load_acquire(&ix->table);
	} while (again != t);
	return t;
}

/* Is the region, which was found under a tag for @access, of that sort? */
static bool is_wanted(const struct region_pool *pool, const struct region *r, u32 access, u64 key)
{
	if (access == INDEX_FULL)
		return true;	/* no other sort has a tag like it */
	if (access == INDEX_READ_ONLY)
		return port_load(&r->sort) == REGION_READ_ONLY;
	return region_has_key(pool->keys, pool->regions, r, key);
}

static struct region *probe(const struct index *ix, const struct index_table *t,
			    struct pin_slot *slot, u32 hash, u64 start, u64 end, u32 access,
			    u64 key)
{
	u32 word, at;

	hash ^= access;
	at = index_first_bucket(t, hash);
	/* acquire: pairs with the releases in file_under() and index_replace() */
	while ((word = port_load_acquire(&t->buckets[at])) != INDEX_EMPTY) {
		struct region *r = index_named(ix, word, index_tag_of(hash));

		if (r) {
			port_store_release(&slot->region, r);
			port_light_barrier();	/* pairs with port_heavy_barrier(), pins_mark() */
			if (port_load_acquire(&t->buckets[at]) != word)
				continue;
			if (r->start <= start && end <= r->end &&
			    is_wanted(ix->pool, r, access, key))
				return r;
		}
		at = index_next_bucket(t, at);
	}
	return NULL;
}

struct region *index_find(const struct index *ix, struct pin_thread *self,
			  struct pin_slot *slot, u64 start, u64 end, u32 access, u64 key)
{
	const struct index_table *t;
	struct region *r = NULL;
	u64 classes;

	do {
		t = walk_begin(ix, self);
		/* a region covers the range only if its class does */
		classes = port_load(&ix->classes) & ~0ULL << index_class_of(end - start);
		for (; classes && !r; classes &= classes - 1) {
			u32 class = (u32)__builtin_ctzll(classes);
			u32 hash = index_hash_of(index_block_of(start, class), class);

			r = probe(ix, t, slot, hash, start, end, access, key);
		}
		/* if the table was replaced meanwhile, the region may be in the new one */
	} while (unlikely(!r && port_load(&ix->table) != t));
	if (!r)
		port_store_release(&slot->region, NULL);
	return r;
}
