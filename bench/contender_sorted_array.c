// SPDX-License-Identifier: MIT
/* Another bound: a binary search over what was registered in the order of addresses. */
#include <stdlib.h>

#include "contender.h"

static struct range { uintptr_t start, end; uint64_t handle; } *ranges;
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

	/* the first that ends above start */
	while (low < high) {
		size_t at = (low + high) / 2;

		if (ranges[at].end <= start)
			low = at + 1;
		else
			high = at;
	}
	if (low < nr_ranges && ranges[low].start <= start && start + len <= ranges[low].end)
		return ranges[low].handle;
	/* new ones come last */
	ranges[nr_ranges++] = (struct range){ start, start + len, start };
	return start;
}

const struct contender sorted_array = {
	"sorted array", array_open, array_close, array_hit, NULL
};
