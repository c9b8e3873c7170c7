// SPDX-License-Identifier: MIT
#include "quiet.h"

#include <sys/mman.h>
#include <invlock/feed.h>
#include <invlock/section.h>

static uint64_t unknown;

struct quiet quiet = { .sequence = &unknown, .since = &unknown };

void quiet_open(struct invlock_mm *mm)
{
	struct invlock_mm_info info = { .size = sizeof(info) };
	uint64_t *since;

	if (invlock_mm_info(mm, &info))
		return;
	since = mmap(NULL, sizeof(*since), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (since == MAP_FAILED)
		return;
	/* a forked child, whose memory no monitor watches, reads 0 */
	if (madvise(since, sizeof(*since), MADV_WIPEONFORK)) {
		munmap(since, sizeof(*since));
		return;
	}
	quiet.sequence = (const uint64_t *)&info.feed->sequence;
	quiet.since = since;
}

void quiet_close(void)
{
	if (quiet.since != &unknown)
		munmap(quiet.since, sizeof(*quiet.since));
	quiet.sequence = quiet.since = &unknown;
}

uint64_t quiet_begin(struct invlock_mm *mm)
{
	uint64_t number = __atomic_load_n(quiet.sequence, __ATOMIC_ACQUIRE);
	struct invlock_moment moment;

	return quiet.since != &unknown && invlock_moment_take(&moment, mm) ? number : 0;
}
