/* SPDX-License-Identifier: MIT */
/*
 * Memory that the kernel refused to register, or the monitor to watch.
 *
 * "Cannot be registered" is a translation like any other: it is sampled before the kernel is
 * asked, and valid until the map changes there. The range is not watched, so a monitor that has to
 * be told of a range (uffd) does not see that change. A request that covers a refused range is
 * refused, too, without asking again.
 *
 * New memory in a hole is no invalidation either, so a range is also tried again after it was
 * met REFUSED_RETRY times. The oldest range makes room for a new one.
 */
#ifndef INVLOCK_URING_REFUSED_H
#define INVLOCK_URING_REFUSED_H

#include <invlock/section.h>


#define NR_REFUSED	64
#define REFUSED_RETRY	1024

struct refused {
	unsigned int nr;	/* places that are not empty */
	unsigned int hand;	/* the place to be filled next */
	struct {
		uint64_t start;
		uint64_t end;	/* 0: the place is empty */
	} ranges[NR_REFUSED];
	unsigned int met[NR_REFUSED];
	struct invlock_read reads[NR_REFUSED];
};

/* does [start, end) cover a range that is still refused? */
bool refused_find(struct refused *refused, uint64_t start, uint64_t end);

/**
 * refused_place() - where to sample a range that may turn out to be refused
 * @refused: the table
 *
 * The caller initialises the section, and calls either refused_add() or
 * invlock_read_end().
 * Return: an empty place; the oldest range has left it. Since: 0.1
 */
struct invlock_read *refused_place(struct refused *refused);

/* the section in refused_place() has committed: [start, end) is refused */
void refused_add(struct refused *refused, uint64_t start, uint64_t end);

/* empty every place */
void refused_clear(struct refused *refused);

#endif /* INVLOCK_URING_REFUSED_H */
