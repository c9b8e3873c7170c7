/* SPDX-License-Identifier: MIT */
/*
 * The look: what is mapped in a range? It is asked before memory is cached, and memory that can
 * change unseen is refused. The look comes after the sample, so that a mapping which replaces
 * another one later collides.
 */
#ifndef INVLOCK_LIB_MONITOR_LOOK_H
#define INVLOCK_LIB_MONITOR_LOOK_H

#include <invlock/mm.h>
#include "core/mapped.h"
#include "core/port.h"

/* Why a range is refused: its first mapping that is not good. */
struct look {
	enum mapped mapped;
	u64 start, end;
};

/* Return: the error that a get answers for such memory: 0, -EFAULT or -EMEDIUMTYPE. */
int look_error(enum mapped mapped);

/*
 * Looks into /proc/self/maps, which distinguishes private anonymous memory from all other memory.
 * The rest is MAPPED_SHARED or MAPPED_PRIVATE_FILE, even if it is a driver's.
 * Return: the kind of the first memory that is not private anonymous memory; MAPPED_GOOD = there is
 * none. If it is not MAPPED_GOOD, ret_look is filled.
 */
enum mapped look_at_maps(u64 start, u64 end, struct look *ret_look);

/* Writes a sentence that names the mapping. Return: look_error(). */
int look_explain(const struct look *look, const char *monitor, struct invlock_why *why);

#endif /* INVLOCK_LIB_MONITOR_LOOK_H */
