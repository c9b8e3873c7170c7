// SPDX-License-Identifier: GPL-2.0-only OR MIT
#include "index.h"

#define EMPTY		0ULL
#define REMOVED		(1ULL << 32)	/* a tag, but no region */

/* the smallest k so that 2^k pages are at least len */
static u32 class_of(u64 len)
{
	u64 pages = (len - 1) >> INDEX_PAGE_SHIFT;

	return pages ? 64 - (u32)__builtin_clzll(pages) : 0;
}

static u64 block_of(u64 addr, u32 class)
{
	return addr >> (INDEX_PAGE_SHIFT + class);
}

static u64 hash_of(u64 block, u32 class)
{
	return (block ^ (u64)class << 57) * 0x9e3779b97f4a7c15ULL;
}

static u64 tag_of(u64 hash)
{
	return hash >> 4 << 32;
}

static u64 first_bucket(const struct index_table *t, u64 hash)
{
	return hash >> (64 - t->bits);
}

static u64 next_bucket(const struct index_table *t, u64 at)
{
	return (at + 1) & ((1ULL << t->bits) - 1);
}

bool index_has_room(const struct index_table *t)
{
	return t->nr_filled + 2 <= (1ULL << t->bits) / 4 * 3;
}

u32 index_next_bits(const struct index_table *t)
{
	u32 nr = t->nr_filled - t->nr_removed;

	/* mostly removed ones: the same size does after they are swept out */
	return nr + 2 <= (1ULL << t->bits) / 8 * 3 ? t->bits : t->bits + 1;
}

static void file_under(struct index_table *t, u64 hash, region_id id)
{
	u64 at = first_bucket(t, hash);
	u64 word;

	while ((word = port_load(&t->buckets[at])) != EMPTY && word != REMOVED)
		at = next_bucket(t, at);
	if (word == REMOVED)
		t->nr_removed--;
	else
		t->nr_filled++;
	/* release: the region is filled in; pairs with index_find() */
	port_store_release(&t->buckets[at], tag_of(hash) | id);
}

static void unfile(struct index_table *t, u64 hash, region_id id)
{
	u64 at = first_bucket(t, hash);

	while (port_load(&t->buckets[at]) != (tag_of(hash) | id))
		at = next_bucket(t, at);
	/* relaxed: it is port_heavy_barrier() that makes lookups see it, or us see their pins */
	port_store(&t->buckets[at], REMOVED);
	t->nr_removed++;
}

static void insert_in(struct index_table *t, const struct index *ix, struct region *r)
{
	u32 class = class_of(r->end - r->start);
	u64 last = block_of(r->end - 1, class);

	for (u64 block = block_of(r->start, class); block <= last; block++)
		file_under(t, hash_of(block, class), region_id_of(ix->pool, r));
}

void index_insert(struct index *ix, struct region *r)
{
	port_store(&ix->classes, port_load(&ix->classes) | 1ULL << class_of(r->end - r->start));
	insert_in(ix->table, ix, r);
	r->filed = true;
}

void index_remove(struct index *ix, struct region *r)
{
	u32 class = class_of(r->end - r->start);
	u64 last = block_of(r->end - 1, class);

	for (u64 block = block_of(r->start, class); block <= last; block++)
		unfile(ix->table, hash_of(block, class), region_id_of(ix->pool, r));
	r->filed = false;
}

struct index_table *index_replace(struct index *ix, struct index_table *table)
{
	struct index_table *old = ix->table;
	const struct region_pool *pool = ix->pool;
	u64 classes = 0;

	for (u32 i = 0; i < pool->nr_used; i++) {
		struct region *r = &pool->regions[i];

		if (port_load(&r->state) != REGION_LIVE || !r->filed)
			continue;
		classes |= 1ULL << class_of(r->end - r->start);
		insert_in(table, ix, r);
	}
	/* release: pairs with the acquire in walk_begin() */
	port_store_release(&ix->table, table);
	/* after the table: a class that is not in it needs no probe */
	port_store(&ix->classes, classes);
	/*
	 * From now on regions leave the new table only: a lookup that is still in the old one
	 * must find nothing there. Release: it then finds the new one; pairs with probe().
	 */
	for (u64 at = 0; at < 1ULL << old->bits; at++)
		port_store_release(&old->buckets[at], EMPTY);
	return old;
}

/* protect the table from being freed under this lookup */
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

static struct region *probe(const struct index *ix, const struct index_table *t,
			    struct pin_slot *slot, u64 hash, u64 start, u64 end)
{
	u64 at = first_bucket(t, hash), tag = tag_of(hash);
	u64 word;

	/* acquire: pairs with the releases in file_under() and index_replace() */
	while ((word = port_load_acquire(&t->buckets[at])) != EMPTY) {
		if ((word & ~0xffffffffULL) == tag && (region_id)word) {
			struct region *r = region_at(ix->pool, (region_id)word);

			port_store_release(&slot->region, r);
			port_light_barrier();	/* pairs with port_heavy_barrier(), pins_mark() */
			if (port_load_acquire(&t->buckets[at]) != word)
				continue;
			if (r->start <= start && end <= r->end)
				return r;
		}
		at = next_bucket(t, at);
	}
	return NULL;
}

struct region *index_find(const struct index *ix, struct pin_thread *self,
			  struct pin_slot *slot, u64 start, u64 end)
{
	const struct index_table *t;
	struct region *r = NULL;
	u64 classes;

	do {
		t = walk_begin(ix, self);
		/* a region covers the range only if its class does */
		classes = port_load(&ix->classes) & ~0ULL << class_of(end - start);
		for (; classes && !r; classes &= classes - 1) {
			u32 class = (u32)__builtin_ctzll(classes);

			r = probe(ix, t, slot, hash_of(block_of(start, class), class), start, end);
		}
		/* nothing in a table that was replaced meanwhile says nothing about the new one */
	} while (unlikely(!r && port_load(&ix->table) != t));
	if (!r)
		port_store_release(&slot->region, NULL);
	port_store_release(&self->table, NULL);
	return r;
}
