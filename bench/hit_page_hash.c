// SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "hit.h"

#define BITS	18

static struct { uint64_t page, handle; } *table;

static bool hash_open(void)
{
	table = calloc(1u << BITS, sizeof(*table));
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
	for (; table[at].page != page; at = (at + 1) & ((1u << BITS) - 1)) {
		if (table[at].page)
			continue;
		table[at].page = page;
		table[at].handle = page;
	}
	return table[at].handle;
}

const struct contender page_hash = { "page hash, no check", hash_open, hash_close, hash_hit };
