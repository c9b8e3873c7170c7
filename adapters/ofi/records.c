// SPDX-License-Identifier: MIT
#include "records.h"

#include <stdlib.h>

struct fi_record *records_add(struct records *records, const void *addr, size_t len)
{
	struct fi_record **bucket = &records->table[records_bucket((uintptr_t)addr)];
	struct fi_record *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->addr = (uintptr_t)addr;
	r->len = len;
	r->next = *bucket;
	*bucket = r;
	records->nr++;
	return r;
}

void records_remove(struct records *records, struct fi_record *r)
{
	struct fi_record **link = &records->table[records_bucket(r->addr)];

	while (*link != r)
		link = &(*link)->next;
	*link = r->next;
	if (r->sampled)
		invlock_read_end(&r->read);
	free(r);
	records->nr--;
}

void records_empty(struct records *records, struct fi_record *r)
{
	r->nr = 0;
	r->next_emptied = records->emptied;
	records->emptied = r;
}

void records_remove_emptied(struct records *records)
{
	while (records->emptied) {
		struct fi_record *r = records->emptied;

		records->emptied = r->next_emptied;
		records_remove(records, r);
	}
}

static bool is_stale(struct fi_record *r)
{
	return r->doomed || (r->sampled && !invlock_read_valid(&r->read));
}

unsigned int records_doom(struct records *records, struct fi_range *ret_doomed, unsigned int nr)
{
	unsigned int doomed = 0;

	for (unsigned int i = 0; i < RECORDS_BUCKETS; i++, records->hand++) {
		struct fi_record *r = records->table[records->hand % RECORDS_BUCKETS];

		for (; r; r = r->next) {
			if (!r->nr || (records->nr - doomed < RECORDS_MAX && !is_stale(r)))
				continue;
			if (doomed == nr)
				return doomed;
			record_doom(r);
			r->nr_since = 0;
			/* not the sample, which a lookup may refresh just now */
			ret_doomed[doomed++] = (struct fi_range){ r->addr, r->len };
		}
	}
	return doomed;
}

bool records_are_good(const struct records *records)
{
	for (unsigned int i = 0; i < RECORDS_BUCKETS; i++)
		for (struct fi_record *r = records->table[i]; r; r = r->next)
			if (r->nr && !record_is_good(r))
				return false;
	return true;
}
