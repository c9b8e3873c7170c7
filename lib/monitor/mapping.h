/* SPDX-License-Identifier: MIT */
/* Looks up what /proc/self/maps says about one address. */
#ifndef INVLOCK_LIB_MONITOR_MAPPING_H
#define INVLOCK_LIB_MONITOR_MAPPING_H

#include <stdbool.h>
#include "core/port.h"

#define MAPPING_NAME	160

struct mapping {
	u64 start, end;
	u64 inode;
	bool shared;
	char name[MAPPING_NAME];	/* "" = none; a long name is cut off */
};

/* Return: a descriptor of /proc/self/maps, which the caller closes; or -errno. Calls no malloc. */
int mappings_open(void);
void mappings_close(int maps);

/* Return: 0; -ENOENT = nothing is mapped there; another -errno. Calls no malloc. */
int mapping_find(int maps, u64 addr, struct mapping *ret);

/*
 * As mapping_find(), for kernels older than 6.11, where the file must be read from its beginning.
 */
int mapping_find_in_text(int maps, u64 addr, struct mapping *ret);

/*
 * Is this private anonymous memory? false may be wrong: a private mapping of /dev/zero is
 * anonymous, but looks like a mapping of a file.
 */
bool mapping_is_anon(const struct mapping *m);

#endif /* INVLOCK_LIB_MONITOR_MAPPING_H */
