/* SPDX-License-Identifier: MIT */
/*
 * Races between a real change of the map and a lookup, with the bpf monitor.
 *
 * Memory itself shows a stale use. The thread that owns a page writes a number into it that was
 * never used before, and a registration remembers the number that it found. A hit is stale if its
 * number is not the one in memory at a moment when the asking thread owns the page.
 */
#ifndef INVLOCK_TESTS_RACE_RIG_H
#define INVLOCK_TESTS_RACE_RIG_H

#include <invlock/cache.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/gate.h"
#include "tests/hold.h"

struct race {
	struct invlock_mm *mm;
	struct invlock_cache *cache;
	unsigned long rounds;
	unsigned long stale;
	unsigned long hits;
	unsigned long refused;	/* gets that failed, and so are no stale uses */
	bool reaper;		/* set before the open: the library's thread reaps */
};

/* Opens the monitor and a cache. Skips the test, with the reason, if that is not possible. */
void race_open(struct race *race);
void race_close(struct race *race);

/* Skips the test if bpf's programs are not at functions. */
void race_need_functions(void);

/* Return: a number that was never used before */
uint64_t race_number(void);

/* Gets [addr, addr + len), compares the registered number with the one in memory, and puts. */
void race_use(struct race *race, void *addr, size_t len);

/*
 * A descriptor that holds changes in their middle: skips the test, with the reason, if there is
 * none. Of memory that it holds, a munmap() has unmapped all and a discard has dropped nothing when
 * each waits to be let go.
 */
int race_open_uffd(void);
void race_hold_changes(int uffd, char *addr, size_t len);

/* Anonymous memory at an address that the kernel chooses. */
void *race_map(size_t len);

extern unsigned long race_rounds;

/* In uring_race.c: registrations are io_uring fixed buffers, and uses are real writes. */
enum uring_change { CHANGE_DISCARD, CHANGE_FIXED, CHANGE_REMAP };
unsigned long uring_race(enum uring_change change, unsigned long rounds,
			 unsigned long *ret_writes);

/* The same, but each registration is made in the middle of a discard, which waits for it. */
unsigned long uring_held_discard(unsigned long rounds, unsigned long *ret_writes);

#endif /* INVLOCK_TESTS_RACE_RIG_H */
