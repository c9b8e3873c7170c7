// SPDX-License-Identifier: MIT
#include "changes.h"

static const struct map_change *const lists[] = {
	map_changes, advise_changes, truncate_changes, file_changes, process_changes,
	libc_changes, stack_changes,
};

const struct map_change *map_change_at(unsigned int nr)
{
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		for (const struct map_change *c = lists[i]; c->name; c++)
			if (!nr--)
				return c;
	return NULL;
}
