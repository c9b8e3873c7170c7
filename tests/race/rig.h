/* SPDX-License-Identifier: MIT */
/*
 * Races between a real change of the map and a lookup, with the bpf monitor.
 *
 * The oracle is the memory itself. Whoever owns a page writes a number into it that was
 * never used before; a registration remembers the number that it found. A hit whose number
 * is not the one in memory, which the asking thread owns at that moment, is a stale use.
 */
#ifndef INVLOCK_TESTS_RACE_RIG_H
#define INVLOCK_TESTS_RACE_RIG_H

#include <invlock/cache.h>
#include <stdbool.h>
#include <stdint.h>

#define PAGE	4096UL

struct race {
	struct invlock_mm *mm;
	struct invlock_cache *cache;
	unsigned long rounds;
	unsigned long stale;
	unsigned long hits;
	unsigned long refused;	/* gets that failed: no use, so not stale */
};

/* skips the test, saying why, where the bpf monitor cannot be had */
void race_open(struct race *race);
void race_close(struct race *race);

/* skips where the programs of bpf are not at functions */
void race_need_functions(void);

/* a number that was never used before */
uint64_t race_number(void);

/* get [addr, addr + len), compare what was registered with what is there, put */
void race_use(struct race *race, void *addr, size_t len);

/* two threads that take turns: a wait ends when its turn, or a later one, has come */
struct gate {
	unsigned int turn;	/* atomic */
};

void gate_wait(struct gate *gate, unsigned int turn);
void gate_open(struct gate *gate, unsigned int turn);

/* anonymous memory, where the kernel likes */
void *race_map(size_t len);

extern unsigned long race_rounds;

/* uring_race.c: registrations are io_uring fixed buffers, uses are real writes */
enum uring_change { CHANGE_DISCARD, CHANGE_FIXED, CHANGE_REMAP };
unsigned long uring_race(enum uring_change change, unsigned long rounds,
			 unsigned long *ret_writes);

#endif /* INVLOCK_TESTS_RACE_RIG_H */
