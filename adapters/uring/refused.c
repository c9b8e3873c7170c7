// SPDX-License-Identifier: MIT
#include "refused.h"

static void remove_place(struct refused *refused, unsigned int i)
{
	if (!refused->ranges[i].end)
		return;
	invlock_read_end(&refused->reads[i]);
	refused->ranges[i].end = 0;
	refused->nr--;
}

bool refused_find(struct refused *refused, uint64_t start, uint64_t end)
{
	if (!refused->nr)
		return false;
	for (unsigned int i = 0; i < NR_REFUSED; i++) {
		if (!refused->ranges[i].end || refused->ranges[i].start < start ||
		    refused->ranges[i].end > end)
			continue;
		if (++refused->met[i] < REFUSED_RETRY && invlock_read_valid(&refused->reads[i]))
			return true;
		remove_place(refused, i);
	}
	return false;
}

struct invlock_read *refused_place(struct refused *refused)
{
	remove_place(refused, refused->hand);
	return &refused->reads[refused->hand];
}

void refused_add(struct refused *refused, uint64_t start, uint64_t end)
{
	unsigned int i = refused->hand;

	refused->ranges[i].start = start;
	refused->ranges[i].end = end;
	refused->met[i] = 0;
	refused->nr++;
	refused->hand = (i + 1) % NR_REFUSED;
}

void refused_clear(struct refused *refused)
{
	for (unsigned int i = 0; i < NR_REFUSED; i++)
		remove_place(refused, i);
}
