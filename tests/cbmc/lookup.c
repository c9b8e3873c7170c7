// SPDX-License-Identifier: MIT
/* The index: a lookup of any part of a region probes a block under which the region is filed. */
#include "memory.h"

void sim_light_barrier(void) {}

#include "lib/cache/index.c"

#define MAX_ADDRESS	(1ULL << 57)	/* the same as in lib/cache/get.c */

void a_lookup_probes_a_block_that_its_region_is_filed_under(void)
{
	u64 start = any_u64(), end = any_u64(), from = any_u64(), to = any_u64();
	u64 block, first, last;
	u32 class;

	assume(start < end && end <= MAX_ADDRESS && start <= from && from < to && to <= end);
	class = index_class_of(end - start);
	block = index_block_of(from, class);
	first = index_block_of(start, class);
	last = index_block_of(end - 1, class);
	claim(first <= block && block <= last && last - first <= 1, "it is one of two blocks");
	claim(~0ULL << index_class_of(to - from) & 1ULL << class, "the lookup probes this class");
}

/* A range of any start and length, including one that wraps. */
void what_the_fast_path_serves_lies_in_its_region(void)
{
	static struct invlock_feed feed;
	static const u64 quiet;
	const struct invlock il = { .feed = &feed };
	struct index ix = { .classes = any_u64() & ((1ULL << 46) - 1) };
	u64 start = any_u64(), len = any_u64(), mask = index_block_mask(&ix, len);
	struct region r = { .start = any_u64(), .end = any_u64(), .word = &quiet };

	assume(r.start < r.end && r.end <= MAX_ADDRESS);
	if (!mask || !region_hit(&il, &r, start, len))
		return;
	claim(len >= 1 && ~mask >= len - 1, "the range fits into a block");
	claim(start <= start + len - 1 && r.start <= start && start + len <= r.end, "inside");
}

void a_bucket_names_its_region_under_its_tag_alone(void)
{
	static struct region regions[1];
	const struct index ix = { .regions = regions };
	u32 tag = index_tag_of(any_u64()), other = index_tag_of(any_u64());
	region_id id = (region_id)any_u64();
	u32 word = tag | id;

	assume(id >= 1 && id < INDEX_ID_MASK);
	claim(word != INDEX_EMPTY && word != REMOVED, "an entry is neither empty nor removed");
	claim(index_named(&ix, word, tag) == &regions[id - 1], "its region");
	claim(other == tag || !index_named(&ix, word, other), "no region is named for another tag");
	claim(!index_named(&ix, INDEX_EMPTY, tag), "an empty entry names no region");
	claim(!index_named(&ix, REMOVED, tag), "a removed entry names no region");
}
