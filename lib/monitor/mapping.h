/* SPDX-License-Identifier: MIT */
/* What /proc/self/maps says, for one address. */
#ifndef INVLOCK_LIB_MONITOR_MAPPING_H
#define INVLOCK_LIB_MONITOR_MAPPING_H

#include <stdbool.h>
#include "core/port.h"

#define MAPPING_NAME	160

struct mapping {
	u64 start, end;
	u64 inode;
	bool shared;
	char name[MAPPING_NAME];	/* "" = none; the beginning of one that is longer */
};

/* Return: a descriptor of /proc/self/maps, for the caller to close; -errno. No malloc. */
int mappings_open(void);

/* Return: 0; -ENOENT when nothing is mapped there; -errno. No malloc. */
int mapping_find(int maps, u64 addr, struct mapping *ret);

/* the same on kernels older than 6.11, which have to be read from the beginning */
int mapping_find_in_text(int maps, u64 addr, struct mapping *ret);

/*
 * Private and anonymous memory? false may also be wrong: a private mapping of /dev/zero is
 * anonymous, and looks like one of a file.
 */
bool mapping_is_anon(const struct mapping *m);

#endif /* INVLOCK_LIB_MONITOR_MAPPING_H */
