/* SPDX-License-Identifier: MIT */
/*
 * The changes that the self-test of the library does not make, and all of them as one list:
 *
 *	for (unsigned int i = 0; (c = map_change_at(i)); i++)
 *		map_change_test(c, mm, &result);
 */
#ifndef INVLOCK_TOOL_CHANGES_CHANGES_H
#define INVLOCK_TOOL_CHANGES_CHANGES_H

#include "lib/selftest/map_change.h"

extern const struct map_change file_changes[];
extern const struct map_change process_changes[];
extern const struct map_change libc_changes[];
extern const struct map_change stack_changes[];

/* Return: change number @nr of all lists, those of the self-test first; NULL = no more. */
const struct map_change *map_change_at(unsigned int nr);

#endif /* INVLOCK_TOOL_CHANGES_CHANGES_H */
