/* SPDX-License-Identifier: MIT */
/*
 * Which memory a program has, and which page frames it has. All of it is asked of the kernel, so
 * the checker never touches the program's memory.
 */
#ifndef INVLOCK_TESTS_PROGRAMS_CHECKER_H
#define INVLOCK_TESTS_PROGRAMS_CHECKER_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/page.h"

#define MAX_PAGES	16

struct held_range {
	unsigned long start;
	unsigned int nr_pages;
	bool shared;
};

enum frames {
	FRAMES_HELD,	/* every page is present */
	FRAMES_GONE,	/* a page is missing */
	FRAMES_MOVING,	/* the kernel is moving a page and may put it back: ask again */
	FRAMES_UNKNOWN	/* the program has closed our descriptor */
};

/* Return: 0; -errno = there is no pagemap, or it hides frames (they need CAP_SYS_ADMIN) */
int frames_open(void);

/* Reads the frame number of each page of a range; ret_frames has room for MAX_PAGES. */
enum frames frames_read(const struct held_range *range, uint64_t *ret_frames);

/* Picks some pages that the program can write to and that are present; false = it found none. */
bool range_pick(struct held_range *ret_range);

/* Return: a pseudo-random number below bound */
unsigned int pick(unsigned int bound);

#endif /* INVLOCK_TESTS_PROGRAMS_CHECKER_H */
