// SPDX-License-Identifier: MIT
/*
 * The cache's index and pins: lookups against everything that frees memory.
 *
 * The work of lib/ around core is repeated here in its smallest form and in the same order: one
 * lock for all changes, none for lookups. A registration is a byte of the device, which is 1 while
 * it exists. A thread with a pin uses it; the thread that frees the region lets the device forget
 * it.
 */
#include "cache_rig.h"
#include "core/invalidate.h"

/* ---- lookups ---- */

/* The pin protects the registration: the device must know it, for this page. */
static void use(const struct region *r, u32 page)
{
	u32 knows = sim_load(&device[r->handle], sizeof(u32), SIM_RELAXED);

	if (knows != 1 + page)
		sim_fail("a pinned region for page %u was taken down: the device has %u", page,
			 knows);
	SIM_CHECK(!port_load(&r->sort));
}

/* The fast path. Return: whether it was a hit; otherwise the slot is as empty as before */
static bool hit(struct pin_thread *self, u64 start, u64 end, struct region **ret_region)
{
	if (!index_try_find(ix, self, start, end - start, INDEX_FULL, ret_region))
		return false;
	if ((region_hit(&il, *ret_region, start, end - start) ||
	     region_hit_slow(&il, *ret_region, start, end - start)) &&
	    region_is_writable(*ret_region))
		return true;
	port_store_release(&self->slot->region, NULL);
	return false;
}

static struct pin_slot *get_slow(struct pin_thread *self, u32 page)
{
	struct pin_slot *slot = self->slot;
	struct region *r;
	u32 known;

	if (!pin_slot_is_free(slot)) {
		sim_fail("no slot");
		return NULL;
	}
	r = index_find(ix, self, slot, AT(page), AT(page + 1), INDEX_FULL, 0);
	if (!r) {
		SIM_CHECK(!port_load(&slot->region));
		sim_note("page %u: a miss", page);
		return NULL;
	}
	known = sim_known_changes();
	if (invlock_validate(&il, &r->snap, r->start, r->end) != INVLOCK_VALID) {
		sim_note("page %u: stale", page);
		port_store_release(&slot->region, NULL);
		return NULL;
	}
	sim_note("page %u: a hit", page);
	sim_must_be_current(known, page, 0);
	use(r, page);
	return slot;
}

static struct pin_slot *get(struct pin_thread *self, u32 page)
{
	u32 known = sim_known_changes();
	struct region *r;

	if (!hit(self, AT(page), AT(page + 1), &r))
		return get_slow(self, page);
	sim_note("page %u: a hit at once", page);
	sim_must_be_current(known, page, 0);
	use(r, page);
	return self->slot;
}

/* The fast path takes no slot that holds a pin. */
static void lookup_beside_a_pin(void)
{
	struct pin_slot *slot = get(records[0], 0);
	struct region *r;

	if (!slot)
		return;
	if (hit(records[0], AT(1), AT(2), &r)) {
		use(r, 1);
		port_store_release(&records[0]->slot->region, NULL);
	}
	use(&pool->regions[0], 0);
	port_store_release(&slot->region, NULL);
}

static void get_and_put(struct pin_thread *self, u32 page)
{
	struct pin_slot *slot = get(self, page);

	if (slot)
		port_store_release(&slot->region, NULL);
}

static void use_keyed(const struct region *r)
{
	SIM_CHECK(sim_load(&device[r->handle], sizeof(u32), SIM_RELAXED) == 1);
	SIM_CHECK(port_load(&r->sort) == REGION_KEYED);
	SIM_CHECK(port_load(&pool->keys[0]) == KEY);
}

/* The same for a key: on either path, and never with a region of another key. */
static void lookup_keyed(void)
{
	struct pin_slot *slot = records[0]->slot;
	struct region *r;
	bool found;

	if (index_try_find(ix, records[0], AT(0), AT(1), index_keyed(KEY), &r)) {
		found = region_hit(&il, r, AT(0), AT(1)) &&
			region_has_key(pool->keys, pool->regions, r, KEY);
		if (found)
			use_keyed(r);
		port_store_release(&slot->region, NULL);
		if (found)
			return;
	}
	r = index_find(ix, records[0], slot, AT(0), AT(1), index_keyed(KEY), KEY);
	if (r)
		use_keyed(r);
	port_store_release(&slot->region, NULL);
}

static void lookup(void) { get_and_put(records[0], 0); }

/* A thread that has seen the result of a change must not hit what was there before. */
static void see_and_look_up(void) { sim_map_read(0); lookup(); }

static void lookup_and_leave(void) { lookup(); pin_thread_release(records[0]); }

static void lookup_again(void) { get_and_put(records[0], 0); get_and_put(records[0], 1); }

static void lookup_1(void) { get_and_put(records[1], 0); }

/* A region that is in the index all the time must be found, whatever else happens there. */
static void must_hit(u32 page)
{
	struct pin_slot *slot = get(records[0], page);

	SIM_CHECK(slot);
	if (slot)
		port_store_release(&slot->region, NULL);
}

static void lookup_must_hit(void) { must_hit(0); }

/* The second lookup takes the fast path, or has to notice that the table was replaced. */
static void lookups_must_hit(void)
{
	must_hit(0);
	must_hit(0);
}

static void lookup_in_chain(void) { must_hit(chained); }

/* All slots of the record are taken, so the pin goes to a new chunk. */
static void lookup_with_new_chunk(void)
{
	struct pin_chunk *last;
	struct region *r;

	if (pin_slot_free(records[0], &last)) {
		sim_fail("a slot that is taken was called free");
		return;
	}
	chunk->next = NULL;
	pin_chunk_add(last, chunk);
	r = index_find(ix, records[0], &chunk->slots[0], AT(0), AT(1), INDEX_FULL, 0);
	if (r)
		use(r, 0);
	port_store_release(&chunk->slots[0].region, NULL);
}

static void adopting_thread(void)
{
	struct pin_thread *self = pin_thread_adopt(registry);
	struct pin_slot *slot;

	if (!self)
		return;
	/* no other thread has this record now */
	SIM_CHECK(!sim_fetch_add(&flags[2], sizeof(u32), 1, SIM_RELAXED));
	self->slot = &self->chunk.slots[0];
	/* it has not announced a table yet */
	slot = get_slow(self, 0);
	if (slot)
		port_store_release(&slot->region, NULL);
	sim_fetch_add(&flags[2], sizeof(u32), -1, SIM_RELAXED);
	pin_thread_release(self);
}

static void add_and_leave(void)
{
	pin_thread_add(registry, records[1]);
	pin_thread_release(records[1]);
}

static void adopt_any(void)
{
	struct pin_thread *self = pin_thread_adopt(registry);

	if (self)
		pin_thread_release(self);
}

/* pinned here, and put by another thread */
static void get_and_hand_over(void)
{
	struct pin_slot *slot = get(records[0], 0);

	if (slot)
		port_store_release(&flags[0], 1);
	port_store_release(&flags[1], 1);
}

/* In addition, the slot is used for another pin as soon as it is empty. */
static void get_hand_over_and_get(void)
{
	struct pin_slot *slot;

	get_and_hand_over();
	slot = records[0]->slot;
	if (pin_slot_is_free(slot) && index_find(ix, records[0], slot, AT(1), AT(2), INDEX_FULL, 0))
		use(&pool->regions[1], 1);
}

static void get_hand_over_and_get_any(void)
{
	struct pin_chunk *last;
	struct pin_slot *slot;

	get_and_hand_over();
	slot = pin_slot_free(records[0], &last);
	if (slot) {
		SIM_CHECK(!port_load(&slot->region));
		index_find(ix, records[0], slot, AT(1), AT(2), INDEX_FULL, 0);
	}
}

static void lookup_second_half(void)
{
	struct pin_slot *slot = records[0]->slot;
	struct region *r;

	if (!hit(records[0], AT(1) / 2, AT(1), &r))
		r = index_find(ix, records[0], slot, AT(1) / 2, AT(1), INDEX_FULL, 0);
	SIM_CHECK(r && r->end == AT(1));
	if (r)
		use(r, 0);
	port_store_release(&slot->region, NULL);
}

/* A new thread: its record is added while others scan. */
static void add_0(void) { pin_thread_add(registry, records[0]); lookup(); }

static void add_1(void) { pin_thread_add(registry, records[1]); lookup_1(); }

/* A pin outlives its thread. */
static void get_and_leave(void)
{
	get(records[0], 0);
	pin_thread_release(records[0]);
}

static void put_for_another(void)
{
	sim_await(&flags[1]);
	if (port_load_acquire(&flags[0])) {
		/* the pin still protects its region */
		use(&pool->regions[0], 0);
		port_store_release(&records[0]->chunk.slots[0].region, NULL);
	}
}

/* ---- threads that free memory ---- */

/* Does what cache_bury() does. Locks: held */
static void bury_locked(void)
{
	region_id *link = &pool->dead;

	for (region_id id = pool->dead; id; id = region_at(pool, id)->next)
		region_at(pool, id)->held = false;
	if (!pool->dead || !(pins_alone(registry, NULL) || port_heavy_barrier()))
		return;
	pins_mark(registry, pool);
	while (*link) {
		struct region *r = region_at(pool, *link);

		if (r->held) {
			link = &r->next;
			continue;
		}
		sim_note("region %u is taken down", region_id_of(pool, r));
		*link = r->next;
		device[r->handle] = 0;
		r->handle = GONE;
		region_pool_give(pool, r);
	}
}

static void kill_locked(u32 page)
{
	struct region *r = &pool->regions[0];

	if (!region_is_filed(r) || r->start != AT(page))
		return;
	index_remove(ix, r);
	region_pool_kill(pool, r);
}

static void evict_0(void)
{
	sim_lock(lock);
	kill_locked(0);
	bury_locked();
	sim_unlock(lock);
}

static void evict_and_reuse(void)
{
	sim_lock(lock);
	kill_locked(0);
	bury_locked();
	file(1);
	sim_unlock(lock);
}

/* The same page is filed again in the same region, so with the same word of the table. */
static void evict_and_refile(void)
{
	sim_lock(lock);
	kill_locked(0);
	bury_locked();
	if (!pool->nr_dead)
		file(0);
	sim_unlock(lock);
}

/* The same, for devices that only read. */
static void evict_and_refile_read_only(void)
{
	sim_lock(lock);
	kill_locked(0);
	bury_locked();
	if (!pool->nr_dead)
		file_read_only(0);
	sim_unlock(lock);
}

/* The same, for another key. */
static void evict_and_refile_keyed(void)
{
	sim_lock(lock);
	kill_locked(0);
	bury_locked();
	if (!pool->nr_dead)
		file_keyed(OTHER_KEY);
	sim_unlock(lock);
}

static void replace_table(void)
{
	struct index_table *old;

	sim_lock(lock);
	old = index_replace(ix, tables[1]);
	if (port_heavy_barrier() && !pins_walk_table(registry, old)) {
		/* The table is freed: a thread that still reads it finds rubbish. */
		for (u32 i = 0; i < 1u << BITS; i++)
			old->buckets[i] = GONE << 16 | GONE;
	}
	sim_unlock(lock);
}

static void replace_table_and_evict(void)
{
	sim_lock(lock);
	index_replace(ix, tables[1]);
	kill_locked(0);
	bury_locked();
	sim_unlock(lock);
}

static void insert_1(void)
{
	sim_lock(lock);
	file(1);
	sim_unlock(lock);
}

static void insert_1_evict_0(void)
{
	insert_1();
	evict_0();
}

static void change_up_to(u64 end, u32 kind)
{
	u32 name;

	invlock_inv_start(&il, AT(0), end, kind, 1, 0);
	name = sim_change_begins(0);
	sim_change_made(name, SIM_FENCED);
	invlock_inv_end(&il, AT(0), end);
}

static void change_0(void) { change_up_to(AT(1), INVLOCK_KIND_UNMAP); }

/* up to the top of the address space, so too wide for stripes */
static void change_all(void) { change_up_to(0, INVLOCK_KIND_BRK); }

/* The mm ends; nothing is recorded afterwards. */
static void die(void)
{
	u32 name;

	invlock_close_feed(&il, INVLOCK_FEED_DEAD);
	name = sim_change_begins(0);
	sim_change_made(name, SIM_RELEASE);
}

/* ---- at the end ---- */

static void books_balance(void)
{
	u32 nr_live = 0, nr_dead = 0, nr_free = 0;
	u64 bytes = 0;

	for (u32 i = 0; i < 2; i++)
		for (u32 s = 0; s < PIN_SLOTS; s++)
			SIM_CHECK(!records[i]->chunk.slots[s].region);
	for (u32 i = 0; i < pool->nr_used; i++) {
		nr_live += pool->regions[i].state == REGION_LIVE;
		nr_dead += pool->regions[i].state == REGION_DEAD;
		if (pool->regions[i].state != REGION_FREE)
			bytes += pool->regions[i].end - pool->regions[i].start;
	}
	for (region_id id = pool->free; id; id = region_at(pool, id)->next)
		nr_free++;
	SIM_CHECK(pool->nr_live == nr_live && pool->nr_dead == nr_dead);
	SIM_CHECK(nr_free + nr_live + nr_dead == pool->nr_used);
	SIM_CHECK(pool->nr_registered == nr_live + nr_dead);
	SIM_CHECK(pool->bytes == bytes);
}

static void chunk_is_left(void)
{
	for (u32 i = 0; i < PIN_SLOTS; i++) {
		records[0]->chunk.slots[i].region = NULL;
		SIM_CHECK(!chunk->slots[i].region);
	}
	books_balance();
	bury_locked();
	SIM_CHECK(!pool->nr_dead);
}

static void what_was_left_is_pinned(void)
{
	for (u32 i = 0; i < PIN_SLOTS; i++) {
		struct region *r = records[0]->chunk.slots[i].region;

		SIM_CHECK(!r || r->handle != GONE);
		records[0]->chunk.slots[i].region = NULL;
	}
	books_balance();
	bury_locked();
	SIM_CHECK(!pool->nr_dead);
}

static void both_are_registered(void)
{
	u32 nr = 0;

	for (struct pin_thread *t = registry->threads; t; t = t->next)
		nr++;
	SIM_CHECK(nr == 2);
	books_balance();
}

static void page_1_may_be_pinned(void)
{
	for (u32 i = 0; i < PIN_SLOTS; i++)
		if (records[0]->chunk.slots[i].region == &pool->regions[1])
			records[0]->chunk.slots[i].region = NULL;
	books_balance();
	bury_locked();
	SIM_CHECK(!pool->nr_dead);
}

/* A region that was unlinked and is not pinned is freed by the next scan. */
static void nothing_is_left(void)
{
	books_balance();
	bury_locked();
	SIM_CHECK(!pool->nr_dead);
}

/* The only region has a key. */
static void has_key(void)
{
	make_cache();
	SIM_CHECK(index_keyed(KEY) == index_keyed(OTHER_KEY));
	kill_locked(0);
	bury_locked();
	file_keyed(KEY);
}

static void has_key_and_walks_already(void)
{
	has_key();
	records[0]->table = tables[0];
}

#define FULLY	SIM_ALL, -1, -1
#define BOUNDED	SIM_ALL, 3, 2	/* for the quick run */

const struct sim_case cache_cases[] = {
	{ "evict", "a region that a lookup pinned is not deregistered",
	  FULLY, make_cache, { { "lookup", lookup }, { "evict", evict_0 } }, nothing_is_left },
	{ "evict-short", "a region that the fast path pinned is not deregistered",
	  FULLY, walks_already, { { "lookup", lookup }, { "evict", evict_0 } }, nothing_is_left },
	{ "reuse-short", "the fast path does not mistake a reused region for the old one",
	  FULLY, walks_already, { { "lookup", lookup }, { "evict", evict_and_reuse } },
	  nothing_is_left },
	{ "refile-short", "the fast path finds a region that is filed again as a whole",
	  FULLY, walks_already, { { "lookup", lookup }, { "evict", evict_and_refile } },
	  nothing_is_left },
	{ "read-only-short", "no fast path gives a writer a region that was refiled as read-only",
	  FULLY, walks_already, { { "lookup", lookup }, { "evict", evict_and_refile_read_only } },
	  nothing_is_left },
	{ "read-only", "no lookup gives a writer a region that was refiled as read-only",
	  FULLY, make_cache, { { "lookup", lookup }, { "evict", evict_and_refile_read_only } },
	  nothing_is_left },
	{ "key-short", "no fast path finds a region that was refiled for another key",
	  FULLY, has_key_and_walks_already,
	  { { "lookup", lookup_keyed }, { "evict", evict_and_refile_keyed } }, nothing_is_left },
	{ "key", "no lookup finds a region that was refiled for another key",
	  FULLY, has_key, { { "lookup", lookup_keyed }, { "evict", evict_and_refile_keyed } },
	  nothing_is_left },
	{ "evict-further", "a region that the slow path pinned is not deregistered",
	  FULLY, walks_already_and_asks, { { "lookup", lookup }, { "evict", evict_0 } },
	  nothing_is_left },
	{ "reuse-further", "the slow path does not mistake a reused region for the old one",
	  FULLY, walks_already_and_asks,
	  { { "lookup", lookup }, { "evict", evict_and_reuse } },
	  nothing_is_left },
	{ "insert-short", "the fast path finds a new region as a whole",
	  FULLY, walks_already, { { "lookup", lookup_again }, { "insert", insert_1 } },
	  nothing_is_left },
	{ "beside-a-pin", "a pinned region stays pinned when another one is looked up",
	  FULLY, walks_already,
	  { { "lookup", lookup_beside_a_pin }, { "evict", insert_1_evict_0 } },
	  nothing_is_left },
	{ "reuse", "a lookup does not mistake a reused region for the old one",
	  FULLY, make_cache, { { "lookup", lookup_again }, { "evict", evict_and_reuse } },
	  nothing_is_left },
	{ "refile", "a lookup finds a region that is filed again as a whole",
	  FULLY, make_cache, { { "lookup", lookup }, { "evict", evict_and_refile } },
	  nothing_is_left },
	{ "chain", "a region that is removed does not hide the next one in its chain",
	  FULLY, two_in_a_chain, { { "lookup", lookup_in_chain }, { "evict", evict_0 } },
	  nothing_is_left },
	{ "chunk", "a pin in a chunk that was added a moment ago counts",
	  FULLY, slots_are_taken, { { "lookup", lookup_with_new_chunk }, { "evict", evict_0 } },
	  chunk_is_left },
	{ "barrier-fails", "if the barrier fails, nothing is deregistered",
	  FULLY, barrier_fails, { { "lookup", lookup }, { "evict", evict_0 } }, books_balance },
	{ "table", "a table is not freed under a lookup, and the lookup finds its region",
	  FULLY, make_cache, { { "lookup", lookup_must_hit }, { "replace", replace_table } },
	  nothing_is_left },
	{ "table-again", "a table is not freed under a lookup that announced its walk earlier",
	  FULLY, make_cache, { { "lookups", lookups_must_hit }, { "replace", replace_table } },
	  nothing_is_left },
	{ "left-table", "a table is not freed while a thread that leaves still walks it",
	  FULLY, make_cache, { { "lookup", lookup_and_leave }, { "replace", replace_table } },
	  nothing_is_left },
	{ "old-table", "a lookup in a table that was replaced pins no region that is gone",
	  FULLY, make_cache, { { "lookup", lookup }, { "replace", replace_table_and_evict } },
	  nothing_is_left },
	{ "new-thread", "the pin of a thread that was added a moment ago counts",
	  FULLY, make_cache, { { "new", add_1 }, { "evict", evict_0 } }, nothing_is_left },
	{ "adopt", "a record has one owner, and the pins of its last owner count",
	  BOUNDED, record_is_free, { { "adopt", adopting_thread }, { "adopt-2", adopting_thread },
				     { "evict", evict_0 } }, nothing_is_left },
	{ "alone", "an eviction that finds no thread registered needs no barrier",
	  FULLY, nobody_is_registered, { { "new", add_0 }, { "evict", evict_0 } },
	  nothing_is_left },
	{ "leave", "a thread that ends without a put leaves its pin behind",
	  FULLY, make_cache, { { "leave", get_and_leave }, { "evict", evict_0 } },
	  what_was_left_is_pinned },
	{ "adopt-new", "a record that was added a moment ago can be adopted",
	  FULLY, make_cache, { { "new", add_and_leave }, { "adopt", adopt_any } },
	  nothing_is_left },
	{ "new-walker", "a table is not freed under a thread that was added a moment ago",
	  FULLY, make_cache, { { "new", add_1 }, { "replace", replace_table } }, nothing_is_left },
	{ "add", "two threads that are added at once are both known",
	  FULLY, nobody_is_registered, { { "add-0", add_0 }, { "add-1", add_1 } },
	  both_are_registered },
	{ "halves", "a region that a lookup passed on the way to another one is not used",
	  FULLY, two_halves, { { "lookup", lookup_second_half }, { "evict", evict_and_reuse } },
	  nothing_is_left },
	{ "pin-again", "a slot that another thread emptied and the owner filled hides no pin",
	  BOUNDED, with_page_1, { { "get", get_hand_over_and_get }, { "put", put_for_another },
				  { "evict", evict_0 } }, page_1_may_be_pinned },
	{ "pin-any", "a slot that the owner had to search for hides no pin",
	  BOUNDED, with_page_1, { { "get", get_hand_over_and_get_any }, { "put", put_for_another },
				  { "evict", evict_0 } }, page_1_may_be_pinned },
	{ "hand-over", "a pin that another thread puts protects its region until then",
	  FULLY, make_cache, { { "get", get_and_hand_over }, { "put", put_for_another },
			       { "evict", evict_0 } }, nothing_is_left },
	{ "insert", "a lookup that finds a new region finds it as a whole",
	  FULLY, two_threads, { { "lookup", lookup_again }, { "insert", insert_1 } },
	  nothing_is_left },
	{ "stale-hit", "a region that a change made stale is not hit",
	  BOUNDED, make_cache, { { "change", change_0 }, { "lookup", lookup },
				 { "evict", evict_and_reuse } }, nothing_is_left },
	{ "stale-short", "the fast path hits no region that a change of everything made stale",
	  FULLY, walks_already, { { "change", change_all }, { "lookup", see_and_look_up } },
	  nothing_is_left },
	{ "release", "a lookup, an eviction and the death of the mm",
	  BOUNDED, make_cache, { { "lookup", lookup }, { "evict", evict_0 }, { "die", die } },
	  nothing_is_left },
	{ "two-lookups", "two lookups and an eviction",
	  BOUNDED, two_threads, { { "lookup", lookup }, { "lookup-1", lookup_1 },
				  { "evict", evict_0 } }, nothing_is_left },
	{ }
};
