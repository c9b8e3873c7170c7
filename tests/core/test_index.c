// SPDX-License-Identifier: MIT
/* The index, the pool and the pins, compared with a list that is searched from end to end. */
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "lib/cache/index.h"

#define NR	2000
#define UNIT	(1ULL << INDEX_PAGE_SHIFT)

static struct region regions[NR];
static struct region_pool pool;
static struct index ix;
static struct pin_registry registry;
static struct pin_thread self;

/* In this feed nothing ever happens: every word is 0, like the sum in a zeroed snapshot. */
static struct invlock_feed feed;
static u64 quiet;
static const struct invlock il = { .feed = &feed, .words = &quiet, .stripe_shift = 12 };

static struct index_table *new_table(u32 bits)
{
	void *memory = calloc(1, index_table_bytes(bits));

	assert_non_null(memory);
	return index_table_init(memory, bits);
}

static int setup(void **state)
{
	(void)state;
	memset(regions, 0, sizeof(regions));
	memset(&self, 0, sizeof(self));
	region_pool_init(&pool, regions, NULL, NR);
	index_init(&ix, new_table(4), &pool);
	registry = (struct pin_registry){};
	pin_thread_add(&registry, &self);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(ix.table);
	return 0;
}

static struct region *add(u64 start, u64 end)
{
	struct region *r = region_pool_take(&pool, start, end);

	assert_non_null(r);
	if (!index_has_room(ix.table))
		free(index_replace(&ix, new_table(index_next_bits(ix.table))));
	index_insert(&ix, r, &quiet);
	return r;
}

static void remove_region(struct region *r)
{
	index_remove(&ix, r);
	region_pool_kill(&pool, r);
	pool.dead = r->next;
	region_pool_give(&pool, r);
}

static struct pin_slot *free_slot(void)
{
	struct pin_chunk *last;
	struct pin_slot *slot = pin_slot_free(&self, &last);

	assert_non_null(slot);
	return slot;
}

/* lookups in which the fast path named a region, and lookups in which that was a hit */
static u32 nr_named, nr_first;

static struct region *find(u64 start, u64 end)
{
	struct pin_slot *slot = free_slot();
	struct region *r = index_find(&ix, &self, slot, start, end, INDEX_FULL, 0), *first;

	assert_ptr_equal(slot->region, r);
	slot->region = NULL;
	/* The fast path finds the same region or another one that covers the range, or gives up. */
	if (index_try_find(&ix, &self, start, end - start, INDEX_FULL, &first)) {
		assert_ptr_equal(slot->region, first);
		nr_named++;
		if (region_hit(&il, first, start, end - start)) {
			assert_true(first->start <= start && end <= first->end);
			assert_int_equal(first->state, REGION_LIVE);
			nr_first++;
		}
	}
	slot->region = NULL;
	return r;
}

static bool covered(u64 start, u64 end)
{
	for (u32 i = 0; i < pool.nr_used; i++)
		if (regions[i].state == REGION_LIVE && regions[i].start <= start &&
		    end <= regions[i].end)
			return true;
	return false;
}

TEST(one_region_serves_any_range_inside_it_and_none_outside)
{
	u64 sizes[] = { 1, 2, 3, 4, 5, 7, 8, 9, 1000, 262144, 262145 };

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		for (u64 first = 0; first < 9; first++) {
			u64 start = (0x7f0000000ULL + first) * UNIT, end = start + sizes[i] * UNIT;
			struct region *r = add(start, end);

			assert_ptr_equal(find(start, end), r);
			assert_ptr_equal(find(start, start + 1), r);
			assert_ptr_equal(find(end - 1, end), r);
			assert_ptr_equal(find((start + end) / 2, end), r);
			assert_null(find(start - 1, end));
			assert_null(find(start, end + 1));
			assert_null(find(start - UNIT, start));
			assert_null(find(end, end + 1));
			remove_region(r);
			assert_null(find(start, end));
		}
	}
}

TEST(the_index_agrees_with_a_list_under_random_changes)
{
	unsigned int seed = 1;
	u32 found = 0;

	nr_named = nr_first = 0;
	for (int step = 0; step < 60000; step++) {
		u64 start = (u64)(rand_r(&seed) % 4000) * UNIT;
		u64 end = start + (1 + (u64)(rand_r(&seed) % (rand_r(&seed) % 64 + 1))) * UNIT;

		if (rand_r(&seed) % 3 == 0 && pool.nr_live < NR) {
			add(start, end);
		} else if (rand_r(&seed) % 3 == 0) {
			struct region *r = &regions[rand_r(&seed) % NR];

			if (r->state == REGION_LIVE)
				remove_region(r);
		}
		if (step % 16 == 0) {
			struct region *r = find(start, end);

			assert_int_equal(!!r, covered(start, end));
			if (r) {
				assert_true(r->start <= start && end <= r->end);
				found++;
			}
		}
	}
	assert_true(found > 100);
	assert_true(nr_first > 100);
	assert_true(nr_named > nr_first);
}

static void remove_overlapping(struct region *r, void *arg)
{
	u32 *nr = arg;

	remove_region(r);
	++*nr;
}

TEST(each_region_that_overlaps_a_range_is_named_once_and_may_be_removed_meanwhile)
{
	unsigned int seed = 2;
	u32 total = 0;

	for (int step = 0; step < 3000; step++) {
		u64 start = (u64)(rand_r(&seed) % 4000) * UNIT;
		u64 end = start + (1 + (u64)(rand_r(&seed) % (rand_r(&seed) % 64 + 1))) * UNIT;
		u32 expected = 0, nr = 0;

		while (pool.nr_live < NR / 2) {
			u64 at = (u64)(rand_r(&seed) % 4000) * UNIT;

			add(at, at + (1 + (u64)(rand_r(&seed) % (rand_r(&seed) % 64 + 1))) * UNIT);
		}
		for (u32 i = 0; i < pool.nr_used; i++)
			expected += regions[i].state == REGION_LIVE && regions[i].start < end &&
				    start < regions[i].end;
		index_overlaps(&ix, start, end, remove_overlapping, &nr);
		assert_int_equal(nr, expected);
		total += nr;
	}
	assert_true(total > 1000);
}

TEST(the_pool_hands_out_all_its_regions_and_no_more)
{
	for (u32 i = 0; i < NR; i++)
		assert_non_null(region_pool_take(&pool, i * UNIT, (i + 1) * UNIT));
	assert_null(region_pool_take(&pool, 0, UNIT));
	assert_int_equal(pool.bytes, NR * UNIT);
	region_pool_drop(&pool, &regions[7]);
	assert_int_equal(pool.nr_registered, NR - 1);
	assert_ptr_equal(region_pool_take(&pool, 0, 2 * UNIT), &regions[7]);
	assert_int_equal(pool.bytes, (NR + 1) * UNIT);
}

TEST(the_clock_spares_a_region_that_was_hit_since_its_last_turn)
{
	struct region *r[4];

	assert_null(region_pool_victim(&pool));
	for (u32 i = 0; i < 4; i++)
		r[i] = add(i * UNIT, (i + 1) * UNIT);
	/* All regions were just made, so the first turn only clears their marks. */
	assert_ptr_equal(region_pool_victim(&pool), r[0]);
	r[1]->referenced = true;
	assert_ptr_equal(region_pool_victim(&pool), r[2]);
}

TEST(a_scan_finds_every_pin_and_only_those_of_its_pool)
{
	struct region other = {};
	struct pin_chunk *last, more = {};
	struct region *r[3 * PIN_SLOTS];
	struct pin_slot *slot;

	for (u32 i = 0; i < 3 * PIN_SLOTS; i++)
		r[i] = add(i * UNIT, (i + 1) * UNIT);
	for (u32 i = 0; i < PIN_SLOTS; i++)
		free_slot()->region = r[2 * i];
	assert_null(pin_slot_free(&self, &last));
	pin_chunk_add(last, &more);
	free_slot()->region = &other;
	slot = free_slot();
	slot->region = r[1];
	pins_mark(&registry, &pool);
	for (u32 i = 0; i < 3 * PIN_SLOTS; i++)
		assert_int_equal(r[i]->held, i == 1 || (i % 2 == 0 && i < 2 * PIN_SLOTS));
	assert_false(other.held);

	/* A slot that becomes empty is found again, also in the first chunk. */
	self.chunk.slots[17].region = NULL;
	assert_ptr_equal(free_slot(), &self.chunk.slots[17]);
}

TEST(a_thread_that_holds_many_pins_gets_the_next_slot_at_once)
{
	struct region *r = add(0, UNIT);
	struct pin_slot *held[16] = {};

	free_slot();
	/* as asynchronous I/O does: the oldest request ends, and another one begins */
	for (u32 i = 0; i < 10 * PIN_SLOTS; i++) {
		struct pin_slot **slot = &held[i % 16];

		if (*slot)
			(*slot)->region = NULL;
		assert_true(pin_slot_next(&self));
		*slot = self.slot;
		assert_null((*slot)->region);
		(*slot)->region = r;
	}
}

TEST(a_record_outlives_its_thread_and_the_next_thread_adopts_it_with_its_pins)
{
	struct region *r = add(0, UNIT);

	free_slot()->region = r;
	assert_null(pin_thread_adopt(&registry));
	pin_thread_release(&self);
	pins_mark(&registry, &pool);
	assert_true(r->held);
	assert_ptr_equal(pin_thread_adopt(&registry), &self);
	assert_null(pin_thread_adopt(&registry));
}

TEST(a_hit_needs_a_region_that_contains_the_range_and_did_not_move)
{
	struct region *r = region_pool_take(&pool, 0, 4 * UNIT);

	assert_false(region_hit(&il, r, 0, UNIT));
	assert_false(region_hit_slow(&il, r, 0, UNIT));
	index_insert(&ix, r, &quiet);
	assert_true(region_hit(&il, r, 0, 4 * UNIT));
	assert_true(region_hit(&il, r, 4 * UNIT - 1, 1));
	assert_false(region_hit(&il, r, 1, 4 * UNIT));
	assert_false(region_hit(&il, r, 4 * UNIT, 1));
	/* a range that wraps around and ends in the region */
	assert_false(region_hit(&il, r, -UNIT, 2 * UNIT));
	r->snap.words = INVLOCK_GENERATION;
	assert_false(region_hit(&il, r, 0, UNIT));
	r->snap.words = 0;
	/* A region of several words takes the slow path, with the same result. */
	r->word = &invlock_unquiet;
	assert_false(region_hit(&il, r, 0, UNIT));
	assert_true(region_hit_slow(&il, r, 0, 4 * UNIT));
	assert_false(region_hit_slow(&il, r, 0, 4 * UNIT + 1));
	assert_false(region_hit_slow(&il, r, -UNIT, 2 * UNIT));
	index_remove(&ix, r);
	assert_false(region_hit(&il, r, 0, UNIT));
	assert_false(region_hit_slow(&il, r, 0, UNIT));
}

TEST(the_fast_path_names_no_region_for_a_length_that_none_can_have)
{
	struct region *first;

	add(0, 4 * UNIT);
	find(0, UNIT);
	assert_true(index_try_find(&ix, &self, 0, UNIT, INDEX_FULL, &first));
	self.slot->region = NULL;
	assert_false(index_try_find(&ix, &self, 0, 0, INDEX_FULL, &first));
	assert_false(index_try_find(&ix, &self, 0, 4 * UNIT + 1, INDEX_FULL, &first));
	assert_false(index_try_find(&ix, &self, 0, ~0ULL, INDEX_FULL, &first));
}

TEST(a_table_that_a_thread_walks_is_not_free)
{
	struct index_table *old = ix.table;

	assert_false(pins_walk_table(&registry, old));
	self.table = old;
	assert_true(pins_walk_table(&registry, old));
	self.table = NULL;
}

TEST_MAIN(.setup = setup, .teardown = teardown)
