// SPDX-License-Identifier: MIT
/* The fastest lookup to compare with: it reads one cache line, without lock, reference or check. */
#include <stdlib.h>

#include "contender.h"

#define BITS	18
#define MASK	((1u << BITS) - 1)

static struct slot { uint64_t page, handle; } *table;

static bool hash_open(void)
{
	table = calloc(MASK + 1, sizeof(*table));
	return table;
}

static void hash_close(void)
{
	free(table);
}

static uint64_t hash_hit(void *addr, size_t len)
{
	uint64_t page = (uintptr_t)addr >> 12;
	uint64_t at = page * 0x9e3779b97f4a7c15ULL >> (64 - BITS);

	(void)len;
	while (table[at].page != page && table[at].page)
		at = (at + 1) & MASK;
	if (!table[at].page)
		table[at] = (struct slot){ page, page };
	return table[at].handle;
}

const struct contender page_hash = { "page hash", hash_open, hash_close, hash_hit, NULL };
