// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "checker.h"

#define MAX_MAPPINGS	4096
#define LIST_AGE	64		/* how many picks use one reading of the list */
#define PRESENT		(1ULL << 63)	/* in an entry of pagemap */
#define SWAPPED		(1ULL << 62)	/* swapped out, or being migrated */
#define FRAME		((1ULL << 55) - 1)

static int pagemap = -1;

static struct {
	unsigned long start, end;
	bool shared;
} mappings[MAX_MAPPINGS];
static unsigned int nr_mappings, age;

unsigned int pick(unsigned int bound)
{
	static uint64_t state = 0x9e3779b97f4a7c15;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned int)((state >> 32) % bound);
}

int frames_open(void)
{
	struct held_range mine = { (unsigned long)&pagemap & -PAGE, 1, false };
	uint64_t frame;

	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return -errno;
	/* Without the privilege every frame reads as 0. */
	return frames_read(&mine, &frame) == FRAMES_HELD && frame ? 0 : -EPERM;
}

/* Makes the kernel map the page of a shared mapping again, if it is still there. */
static void touch(unsigned long addr)
{
	char byte;
	struct iovec to = { &byte, 1 }, from = { (void *)addr, 1 };

	process_vm_readv(getpid(), &to, 1, &from, 1, 0);
}

static bool read_entries(const struct held_range *range, uint64_t *entries)
{
	ssize_t bytes = (ssize_t)(range->nr_pages * sizeof(*entries));

	return pread(pagemap, entries, bytes,
		     (off_t)(range->start / PAGE * sizeof(*entries))) == bytes;
}

enum frames frames_read(const struct held_range *range, uint64_t *ret_frames)
{
	enum frames found = FRAMES_HELD;

	if (!read_entries(range, ret_frames))
		return FRAMES_UNKNOWN;
	/*
	 * Reclaim, and some calls, unmap shared pages that stay in their file: map them again
	 * first.
	 */
	if (range->shared) {
		for (unsigned int i = 0; i < range->nr_pages; i++)
			if (!(ret_frames[i] & PRESENT))
				touch(range->start + i * PAGE);
		if (!read_entries(range, ret_frames))
			return FRAMES_UNKNOWN;
	}
	for (unsigned int i = 0; i < range->nr_pages; i++) {
		if (!(ret_frames[i] & PRESENT))
			found = ret_frames[i] & SWAPPED && found != FRAMES_GONE ?
				FRAMES_MOVING : FRAMES_GONE;
		ret_frames[i] &= FRAME;
	}
	return found;
}

static void read_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[1024], perms[5];
	unsigned long start, end;

	nr_mappings = 0;
	if (!f)
		return;
	while (nr_mappings < MAX_MAPPINGS && fgets(line, sizeof(line), f)) {
		/* skip memory of devices, and our own ring */
		if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) != 3 ||
		    strncmp(perms, "rw", 2) || strstr(line, " /dev/dri") ||
		    strstr(line, "[io_uring]"))
			continue;
		mappings[nr_mappings].start = start;
		mappings[nr_mappings].end = end;
		mappings[nr_mappings++].shared = perms[3] == 's';
	}
	fclose(f);
}

bool range_pick(struct held_range *ret_range)
{
	uint64_t frames[MAX_PAGES];
	unsigned int nr, at;

	if (!nr_mappings || !age--) {
		read_mappings();
		age = LIST_AGE;
	}
	if (!nr_mappings)
		return false;
	nr = pick(nr_mappings);
	ret_range->nr_pages = 1 + pick(MAX_PAGES);
	ret_range->shared = mappings[nr].shared;
	/*
	 * Large mappings are mostly empty: try some places of this one; another pick may find more.
	 */
	for (int tries = 0; tries < 8; tries++) {
		unsigned long pages = (mappings[nr].end - mappings[nr].start) / PAGE;

		if (pages < ret_range->nr_pages)
			ret_range->nr_pages = (unsigned int)pages;
		at = pick((unsigned int)(pages - ret_range->nr_pages + 1));
		ret_range->start = mappings[nr].start + at * PAGE;
		if (frames_read(ret_range, frames) == FRAMES_HELD)
			return true;
		ret_range->nr_pages = (ret_range->nr_pages + 1) / 2;
	}
	return false;
}
