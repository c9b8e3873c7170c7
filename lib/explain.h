/* SPDX-License-Identifier: MIT */
/* Errors as sentences. */
#ifndef INVLOCK_LIB_EXPLAIN_H
#define INVLOCK_LIB_EXPLAIN_H

#include <invlock/mm.h>

/* format a sentence into why->text, and return err: `return explain(why, -EPERM, "...")` */
__attribute__((format(printf, 3, 4)))
int explain(struct invlock_why *why, int err, const char *format, ...);

/* add to what why->text says */
__attribute__((format(printf, 2, 3)))
void explain_more(struct invlock_why *why, const char *format, ...);

/* room for the names of all kinds */
#define KIND_NAMES	400

/* the names of a set of kinds, as a part of a sentence: "unmap, brk and truncate" */
void name_kinds(char text[KIND_NAMES], uint64_t kinds);

#endif /* INVLOCK_LIB_EXPLAIN_H */
