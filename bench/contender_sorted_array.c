// SPDX-License-Identifier: MIT
/* Another fast lookup to compare with: a binary search. Regions must be added in address order. */
#include <stdlib.h>

#include "contender.h"

static struct array_range { uintptr_t start, end; uint64_t handle; } *ranges;
static size_t nr_ranges;

static bool array_open(void)
{
	ranges = calloc(MAX_REGIONS, sizeof(*ranges));
	return ranges;
}

static void array_close(void)
{
	free(ranges);
}

static uint64_t array_hit(void *addr, size_t len)
{
	uintptr_t start = (uintptr_t)addr;
	size_t low = 0, high = nr_ranges;

	/* find the first range that ends above start */
	while (low < high) {
		size_t at = (low + high) / 2;

		if (ranges[at].end <= start)
			low = at + 1;
		else
			high = at;
	}
	if (low < nr_ranges && ranges[low].start <= start && start + len <= ranges[low].end)
		return ranges[low].handle;
	/* a new range comes last */
	ranges[nr_ranges++] = (struct array_range){ start, start + len, start };
	return start;
}

const struct contender sorted_array = {
	"sorted array", array_open, array_close, array_hit, NULL
};
