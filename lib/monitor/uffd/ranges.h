/* SPDX-License-Identifier: MIT */
/*
 * Counted ranges: an edge wherever one begins or ends, in a skip list by address. The count
 * of an edge holds up to the next one. An edge stays as long as it is the end of a range, so
 * that removing never needs memory.
 */
#ifndef INVLOCK_LIB_MONITOR_UFFD_RANGES_H
#define INVLOCK_LIB_MONITOR_UFFD_RANGES_H

#include "core/port.h"

#define EDGE_LEVELS	12

struct edge {
	u64 addr;
	u32 count;		/* ranges over [addr, the next edge's) */
	u32 uses;		/* ranges that begin or end here */
	u32 next[EDGE_LEVELS];	/* by place in ranges.edges; 0 is the end */
};

/* Locks: the caller's, for every function */
struct ranges {
	struct edge *edges;	/* [0] is the head: below every address, count 0 */
	u32 capacity;
	u32 nr_used;		/* places ever taken */
	u32 free;		/* a list through next[0] */
	u32 nr_runs;		/* stretches of addresses with a count above 0 */
	u32 random;
};

struct gap {
	u64 start, end;		/* inside what was asked for */
	u64 low, high;		/* the whole stretch with a count of 0 around it */
};

int ranges_init(struct ranges *r);
void ranges_free(struct ranges *r);

/* remove every range */
void ranges_clear(struct ranges *r);

/* count [start, end) once more; -ENOMEM, and then nothing has changed */
int ranges_add(struct ranges *r, u64 start, u64 end);

/* undo one ranges_add(); false = there was none with these ends */
bool ranges_remove(struct ranges *r, u64 start, u64 end);

/* the first stretch of [start, end) that is not counted; false = there is none */
bool ranges_gap(const struct ranges *r, u64 start, u64 end, struct gap *ret);

/* the first stretch with a count above 0 that begins at from or above */
bool ranges_run(const struct ranges *r, u64 from, u64 *ret_start, u64 *ret_end);

#endif /* INVLOCK_LIB_MONITOR_UFFD_RANGES_H */
