/* SPDX-License-Identifier: MIT */
/* When its program ends, bench/false_watch.c writes this to the descriptor that FALSE_FD names. */
#ifndef INVLOCK_BENCH_FALSE_WATCH_H
#define INVLOCK_BENCH_FALSE_WATCH_H

#include <stdint.h>

#define FALSE_FD	"INVLOCK_BENCH_FALSE_FD"

struct false_counts {
	uint64_t hits[2];	/* [0] with the ring, [1] without */
	uint64_t stale[2];
	uint64_t events;
};

#endif /* INVLOCK_BENCH_FALSE_WATCH_H */
