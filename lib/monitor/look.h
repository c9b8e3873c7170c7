/* SPDX-License-Identifier: MIT */
/*
 * The look: what is mapped in a range, before it is cached. Memory that can change unseen is
 * refused. It is looked at after the sample, so that a mapping which replaces it later collides.
 */
#ifndef INVLOCK_LIB_MONITOR_LOOK_H
#define INVLOCK_LIB_MONITOR_LOOK_H

#include <invlock/mm.h>
#include "core/mapped.h"
#include "core/port.h"

/* why a range is refused: the first mapping that is not good */
struct look {
	enum mapped mapped;
	u64 start, end;
};

/* the error of a get for such memory: 0, -EFAULT, -EMEDIUMTYPE */
int look_error(enum mapped mapped);

/*
 * By /proc/self/maps, which tells private anonymous memory from all other: the rest is
 * MAPPED_SHARED or MAPPED_PRIVATE_FILE, a driver's too. Return: what is found first and is not
 * private anonymous memory, MAPPED_GOOD for none; ret_look is filled.
 */
enum mapped look_at_maps(u64 start, u64 end, struct look *ret_look);

/* a sentence that names the mapping; returns look_error() */
int look_explain(const struct look *look, const char *monitor, struct invlock_why *why);

#endif /* INVLOCK_LIB_MONITOR_LOOK_H */
