/* SPDX-License-Identifier: MIT */
/*
 * The ranges that libfabric's caches hold. Each has a sample that was taken before its
 * registrations were made.
 *
 * Several caches may hold the same range, one for each domain, and libfabric does not say which of
 * them it asks for. So there is one record for a range, and it is good only while all registrations
 * of the range are. When one of several is found to be stale, the record is doomed: every use is
 * refused until the reaper has made all caches drop the range.
 */
#ifndef INVLOCK_OFI_RECORDS_H
#define INVLOCK_OFI_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <invlock/section.h>

#define RECORDS_MAX	65000u
#define RECORDS_BUCKETS	8192u

struct fi_range {
	uintptr_t addr;
	size_t len;
};

struct fi_record {
	struct fi_record *next;
	struct fi_record *next_emptied;
	uintptr_t addr;
	size_t len;
	unsigned long born;	/* with which subscribe() */
	unsigned int nr;	/* subscriptions; without unsubscribe() some may be over */
	unsigned int nr_since;	/* of these, the ones since the reaper took up the range */
	bool sampled;		/* read is a sample: if it is stale, some registration is */
	bool known;		/* all registrations are later than read: if it is valid, all are */
	bool doomed;		/* atomic: the reaper is about to make the caches drop the range */
	struct invlock_read read;
};

/* The table and its records are changed with libfabric's lock and ours, and read with either. */
struct records {
	struct fi_record *table[RECORDS_BUCKETS];
	struct fi_record *emptied;	/* that are to be removed */
	unsigned int nr;
	unsigned int hand;	/* the bucket where the reaper goes on */
};

static inline unsigned int records_bucket(uintptr_t addr)
{
	return (addr >> 6 ^ addr >> 16) % RECORDS_BUCKETS;
}

static inline struct fi_record *records_find(const struct records *records, const void *addr,
					     size_t len)
{
	struct fi_record *r = records->table[records_bucket((uintptr_t)addr)];

	while (r && (r->addr != (uintptr_t)addr || r->len != len))
		r = r->next;
	return r;
}

/* a record without subscriptions; NULL = memory is short */
struct fi_record *records_add(struct records *records, const void *addr, size_t len);
void records_remove(struct records *records, struct fi_record *r);

/*
 * The reaper has no lock of libfabric's: it leaves a record that has no subscription any more to
 * the next subscribe(), which removes it.
 */
void records_empty(struct records *records, struct fi_record *r);
void records_remove_emptied(struct records *records);

static inline void record_doom(struct fi_record *r)
{
	__atomic_store_n(&r->doomed, true, __ATOMIC_RELAXED);
}

/* May a registration of the range be used? */
static inline bool record_is_good(struct fi_record *r)
{
	/* a registration that is stale is refused by its sample, so no order is needed here */
	return r->known && !__atomic_load_n(&r->doomed, __ATOMIC_RELAXED) &&
	       invlock_read_valid(&r->read);
}

/*
 * Marks up to @nr records as doomed that are not good, or too many. Return: how many; their ranges
 * are in @ret_doomed.
 */
unsigned int records_doom(struct records *records, struct fi_range *ret_doomed, unsigned int nr);

/* Of every range that has registrations, may they be used? */
bool records_are_good(const struct records *records);

#endif /* INVLOCK_OFI_RECORDS_H */
