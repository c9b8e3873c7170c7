/* SPDX-License-Identifier: MIT */
/*
 * Changes: every way to change a memory map that we know, made for real.
 *
 * The self-test at open makes the cheap ones; `invlock doctor` and the tests make all.
 * Private to this project: the tool and the tests link it statically.
 */
#ifndef INVLOCK_LIB_CHANGE_H
#define INVLOCK_LIB_CHANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <invlock/mm.h>

enum change_verdict {
	CHANGE_MISSED,		/* the map changed, a translation of it still validates */
	CHANGE_SEEN,
	CHANGE_UNKNOWN,		/* could not be made here; see the reason */
};

struct change_result {
	enum change_verdict verdict;
	char reason[160];	/* of CHANGE_UNKNOWN and CHANGE_MISSED */
};

/**
 * struct change - one way
 * @name: for people and JSON, as "munmap (raw syscall)": unique
 * @kind: enum invlock_kind
 * @quick: cheap and harmless enough for the self-test at every open: no fork, no file, no
 *	thread, no large memory
 */
struct change {
	const char *name;
	enum invlock_kind kind;
	bool quick;
	/* private: prepares memory, translates it, changes the map, asks whether it is valid */
	void (*run)(const struct change *c, struct invlock_mm *mm, struct change_result *ret);
};

extern const struct change changes[];
extern const unsigned int nr_changes;

/**
 * change_test() - make one change and see whether the monitor saw it
 * @c: one of changes[]
 * @mm: the mm
 * @ret: always filled
 *
 * Leaves the map as it was. Context: may sleep; not thread safe towards itself.
 */
void change_test(const struct change *c, struct invlock_mm *mm, struct change_result *ret);

#endif /* INVLOCK_LIB_CHANGE_H */
