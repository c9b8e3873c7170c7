// SPDX-License-Identifier: MIT
/*
 * A hit without any safety: a lookup in the page hash, a read of the region's own cache line, and a
 * get and a put that fill and read a pin of the same size. There is no lock, reference, check or
 * count. A hit that has any of these cannot cost less.
 */
#include <invlock/cache.h>
#include <stdlib.h>

#include "contender.h"

#define BITS	18
#define MASK	((1u << BITS) - 1)

struct record {
	uint64_t start, end, handle;
} __attribute__((aligned(64)));

static uint32_t *table;
static struct record *records;
static uint32_t nr_records;

static bool calls_open(void)
{
	table = calloc(MASK + 1, sizeof(*table));
	records = aligned_alloc(64, (MAX_REGIONS + 1) * sizeof(*records));
	nr_records = 0;
	return table && records;
}

static void calls_close(void)
{
	free(table);
	free(records);
}

/* Keep the compiler from optimizing across the calls, as the boundary of a library does. */
#define APART	__attribute__((__noipa__))

APART static int get(void *addr, size_t len, struct invlock_pin *ret_pin)
{
	uint64_t start = (uintptr_t)addr, end = start + len;
	uint64_t at = (start >> 12) * 0x9e3779b97f4a7c15ULL >> (64 - BITS);
	struct record *r;

	for (; table[at]; at = (at + 1) & MASK) {
		r = &records[table[at]];
		if (r->start <= start && end <= r->end) {
			*ret_pin = (struct invlock_pin){
				.addr = addr, .len = len, .handle = r->handle, .slot = r
			};
			return 0;
		}
	}
	table[at] = ++nr_records;
	records[nr_records] = (struct record){ start, end, start };
	return -1;
}

APART static int put(struct invlock_pin *pin)
{
	if (!pin->slot)
		return -1;
	pin->slot = NULL;
	return 0;
}

static uint64_t calls_hit(void *addr, size_t len)
{
	struct invlock_pin pin;

	if (get(addr, len, &pin))
		return 0;
	put(&pin);
	return pin.handle;
}

const struct contender bare_calls = { "bare get, put", calls_open, calls_close, calls_hit, NULL };
