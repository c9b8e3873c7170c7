// SPDX-License-Identifier: MIT
#include "records.h"

#include <stdlib.h>

static unsigned int bucket_of(uintptr_t addr)
{
	return (addr >> 6) % RECORDS_BUCKETS;
}

struct fi_record *records_find(const struct records *records, const void *addr, size_t len)
{
	struct fi_record *r = records->table[bucket_of((uintptr_t)addr)];

	while (r && (r->addr != (uintptr_t)addr || r->len != len))
		r = r->next;
	return r;
}

struct fi_record *records_add(struct records *records, const void *addr, size_t len)
{
	struct fi_record **bucket = &records->table[bucket_of((uintptr_t)addr)];
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
	struct fi_record **link = &records->table[bucket_of(r->addr)];

	while (*link != r)
		link = &(*link)->next;
	*link = r->next;
	if (r->sampled)
		invlock_read_end(&r->read);
	free(r);
	records->nr--;
}

bool record_is_good(struct fi_record *r)
{
	return r->known && !r->doomed && invlock_read_valid(&r->read);
}

static bool is_stale(struct fi_record *r)
{
	return r->doomed || (r->sampled && !invlock_read_valid(&r->read));
}

unsigned int records_doom(struct records *records, struct fi_record *ret_doomed, unsigned int nr)
{
	unsigned int doomed = 0;

	for (unsigned int i = 0; i < RECORDS_BUCKETS; i++, records->hand++) {
		struct fi_record *r = records->table[records->hand % RECORDS_BUCKETS];

		for (; r; r = r->next) {
			if (records->nr - doomed < RECORDS_MAX && !is_stale(r))
				continue;
			if (doomed == nr)
				return doomed;
			r->doomed = true;
			r->nr_since = 0;
			ret_doomed[doomed++] = *r;
		}
	}
	return doomed;
}
