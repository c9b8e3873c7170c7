/* SPDX-License-Identifier: MIT */
/*
 * Memory that a program sends from or receives into, and that changes between two messages. The
 * programs that use this know nothing of invlock.
 */
#ifndef INVLOCK_TESTS_RDMA_TORN_H
#define INVLOCK_TESTS_RDMA_TORN_H

#include <stdbool.h>
#include <stddef.h>

enum torn_change {
	TORN_NOTHING,
	TORN_PROTECT,		/* and back: the same pages stay */
	TORN_UNMAP,		/* and map at the same address */
	TORN_UNMAP_RAW,		/* the same by system calls that no hook in libc sees */
	TORN_MAP_OVER,
	TORN_DISCARD,		/* MADV_DONTNEED, a raw call */
	TORN_MOVE_AWAY,		/* mremap, and map at the old address */
	TORN_MOVE_ONTO,		/* mremap of other memory to this address */
	TORN_GUARD,		/* guard pages, and remove them: Linux 6.13 */
	TORN_TRUNCATE,		/* the file that is mapped, and extend it again */
	TORN_REMOVE,		/* MADV_REMOVE of the file's pages */
	TORN_FREE,		/* and malloc() */
	TORN_NR
};

extern const char *const torn_names[TORN_NR];

/* does the change put other pages at the address? */
bool torn_is_harmful(enum torn_change change);

struct torn;

/* Return: memory of each sort that changes need, of @len bytes; ends the program on an error */
struct torn *torn_open(size_t len);

/*
 * Makes the change. Return: the memory, at the address where it was before; NULL if this kernel
 * does not know the change.
 */
void *torn_tear(struct torn *t, enum torn_change change);

/* Return: the memory that torn_tear() will change */
void *torn_memory(struct torn *t, enum torn_change change);

/* Return: TORN_NOTHING for about half of the messages, else each change as often as any other */
enum torn_change torn_next(unsigned int *seed);

struct torn_tally {
	unsigned int sent[TORN_NR];
	unsigned int stale[TORN_NR];
};

/* Was each byte of the message @want? Counts it. */
void torn_judge(struct torn_tally *tally, enum torn_change change, const void *got, size_t len,
		unsigned char want);

/* Prints a line for each change, and the last one: "N stale of M messages" */
void torn_print(const struct torn_tally *tally);

#endif /* INVLOCK_TESTS_RDMA_TORN_H */
