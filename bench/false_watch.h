/* SPDX-License-Identifier: MIT */
/* What bench/false_watch.c writes when its program ends, to the descriptor named by FALSE_FD. */
#ifndef INVLOCK_BENCH_FALSE_WATCH_H
#define INVLOCK_BENCH_FALSE_WATCH_H

#include <stdint.h>

#define FALSE_FD	"INVLOCK_BENCH_FALSE_FD"

struct false_counts {
	uint64_t hits[2];	/* with the ring, without */
	uint64_t stale[2];
	uint64_t events;
};

#endif /* INVLOCK_BENCH_FALSE_WATCH_H */
