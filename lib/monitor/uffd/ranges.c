// SPDX-License-Identifier: MIT
#include "ranges.h"

#include <errno.h>
#include <sys/mman.h>

#include "lib/mm.h"

#define FIRST_CAPACITY	1024

/*
 * The memory is mapped, not malloc'ed: watch may be called from inside an allocator, which
 * must not be entered again under our lock.
 */
int ranges_init(struct ranges *r)
{
	*r = (struct ranges){ .capacity = FIRST_CAPACITY, .nr_used = 1, .random = 1 };
	r->edges = map_wiped_on_fork(r->capacity * sizeof(struct edge));
	return r->edges ? 0 : -ENOMEM;
}

void ranges_free(struct ranges *r)
{
	munmap(r->edges, r->capacity * sizeof(struct edge));
}

void ranges_clear(struct ranges *r)
{
	r->edges[0] = (struct edge){};
	r->nr_used = 1;
	r->free = r->nr_runs = 0;
}

static bool reserve(struct ranges *r, u32 nr)
{
	size_t bytes = r->capacity * sizeof(struct edge);
	void *edges;

	if (r->nr_used + nr <= r->capacity)
		return true;
	edges = mremap(r->edges, bytes, 2 * bytes, MREMAP_MAYMOVE);
	if (edges == MAP_FAILED)
		return false;
	r->edges = edges;
	r->capacity *= 2;
	return true;
}

/* 1, or one more with a chance of a quarter, ... */
static u32 random_height(struct ranges *r)
{
	u32 height = 1;

	r->random ^= r->random << 13;
	r->random ^= r->random >> 17;
	r->random ^= r->random << 5;
	for (u32 bits = r->random; height < EDGE_LEVELS && !(bits & 3); bits >>= 2)
		height++;
	return height;
}

/* on each level the last edge below addr; the edge at addr or above, 0 = none */
static u32 find(const struct ranges *r, u64 addr, u32 before[EDGE_LEVELS])
{
	u32 at = 0, next;

	for (int level = EDGE_LEVELS - 1; level >= 0; level--) {
		while ((next = r->edges[at].next[level]) && r->edges[next].addr < addr)
			at = next;
		before[level] = at;
	}
	return r->edges[at].next[0];
}

/* Locks: the caller has called reserve(). */
static void edge_get(struct ranges *r, u64 addr)
{
	u32 before[EDGE_LEVELS], at = find(r, addr, before), height;

	if (at && r->edges[at].addr == addr) {
		r->edges[at].uses++;
		return;
	}
	at = r->free;
	if (at)
		r->free = r->edges[at].next[0];
	else
		at = r->nr_used++;
	r->edges[at] = (struct edge){
		.addr = addr, .count = r->edges[before[0]].count, .uses = 1,
	};
	height = random_height(r);
	for (u32 level = 0; level < height; level++) {
		r->edges[at].next[level] = r->edges[before[level]].next[level];
		r->edges[before[level]].next[level] = at;
	}
}

/* After its last use an edge goes: no range begins or ends there, so both sides count the same. */
static void edge_put(struct ranges *r, u64 addr)
{
	u32 before[EDGE_LEVELS], at = find(r, addr, before);

	if (--r->edges[at].uses)
		return;
	for (u32 level = 0; level < EDGE_LEVELS; level++)
		if (r->edges[before[level]].next[level] == at)
			r->edges[before[level]].next[level] = r->edges[at].next[level];
	r->edges[at].next[0] = r->free;
	r->free = at;
}

/* Both @start and @end are edges already. */
static void add(struct ranges *r, u64 start, u64 end, u32 delta)
{
	u32 before[EDGE_LEVELS], at = find(r, start, before);
	u32 was = r->edges[before[0]].count, is = was;

	for (; at && r->edges[at].addr <= end; at = r->edges[at].next[0]) {
		struct edge *e = &r->edges[at];
		u32 old = e->count;

		if (e->addr < end)
			e->count += delta;
		r->nr_runs += (e->count && !is) - (old && !was);
		was = old;
		is = e->count;
	}
}

int ranges_add(struct ranges *r, u64 start, u64 end)
{
	if (!reserve(r, 2))
		return -ENOMEM;
	edge_get(r, start);
	edge_get(r, end);
	add(r, start, end, 1);
	return 0;
}

bool ranges_remove(struct ranges *r, u64 start, u64 end)
{
	u32 before[EDGE_LEVELS], first = find(r, start, before), last = find(r, end, before);

	if (!first || !last || r->edges[first].addr != start || r->edges[last].addr != end)
		return false;
	for (u32 at = first; at != last; at = r->edges[at].next[0])
		if (!r->edges[at].count)
			return false;
	add(r, start, end, -1u);
	edge_put(r, start);
	edge_put(r, end);
	return true;
}

/* an edge has a count above 0 on one side at least, so none lies inside a gap */
bool ranges_gap(const struct ranges *r, u64 start, u64 end, struct gap *ret)
{
	u32 before[EDGE_LEVELS], at, next;

	find(r, start + 1, before);
	for (at = before[0]; r->edges[at].count; at = next) {
		/* never 0: behind the last edge nothing is counted */
		next = r->edges[at].next[0];
		if (r->edges[next].addr >= end)
			return false;
	}
	next = r->edges[at].next[0];
	ret->low = r->edges[at].addr;
	ret->high = next ? r->edges[next].addr : ~0ULL;
	ret->start = ret->low > start ? ret->low : start;
	ret->end = ret->high < end ? ret->high : end;
	return true;
}

bool ranges_run(const struct ranges *r, u64 from, u64 *ret_start, u64 *ret_end)
{
	u32 before[EDGE_LEVELS], at = find(r, from, before);

	while (at && !r->edges[at].count)
		at = r->edges[at].next[0];
	if (!at)
		return false;
	*ret_start = r->edges[at].addr;
	while (r->edges[at].count)
		at = r->edges[at].next[0];
	*ret_end = r->edges[at].addr;
	return true;
}
