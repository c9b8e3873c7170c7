/* SPDX-License-Identifier: MIT */
/* Errors as sentences. */
#ifndef INVLOCK_LIB_EXPLAIN_H
#define INVLOCK_LIB_EXPLAIN_H

#include <invlock/mm.h>

/* format a sentence into why->text, and return err: `return explain(why, -EPERM, "...")` */
__attribute__((format(printf, 3, 4)))
int explain(struct invlock_why *why, int err, const char *format, ...);

/* the names of a set of kinds: "unmap, truncate" */
void name_kinds(char *text, size_t size, uint64_t kinds);

#endif /* INVLOCK_LIB_EXPLAIN_H */
