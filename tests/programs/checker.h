/* SPDX-License-Identifier: MIT */
/*
 * Which memory a program has, and which page frames are behind it: asked of the kernel, so
 * that the checker never touches the program's memory.
 */
#ifndef INVLOCK_TESTS_PROGRAMS_CHECKER_H
#define INVLOCK_TESTS_PROGRAMS_CHECKER_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE		4096UL
#define MAX_PAGES	16

struct held_range {
	unsigned long start;
	unsigned int nr_pages;
	bool shared;
};

enum frames {
	FRAMES_HELD,	/* every page is there */
	FRAMES_GONE,	/* one is not */
	FRAMES_MOVING,	/* the kernel is at work on one, and may put it back: ask again */
	FRAMES_UNKNOWN	/* the program has closed our descriptor */
};

/* 0, or -errno: no pagemap, or one that does not tell frames (needs CAP_SYS_ADMIN) */
int frames_open(void);

/* the frames of a range, a number each; ret_frames has room for MAX_PAGES */
enum frames frames_read(const struct held_range *range, uint64_t *ret_frames);

/* some pages that the program can write to and that are there; false = none was found */
bool range_pick(struct held_range *ret_range);

/* a pseudo-random number below bound */
unsigned int pick(unsigned int bound);

#endif /* INVLOCK_TESTS_PROGRAMS_CHECKER_H */
