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
#define RECORDS_BUCKETS	4099

struct fi_record {
	struct fi_record *next;
	uintptr_t addr;
	size_t len;
	unsigned int nr;	/* subscriptions; without unsubscribe() some may be over */
	unsigned int nr_since;	/* of these, the ones since the reaper took up the range */
	bool sampled;		/* read is a sample: if it is stale, some registration is */
	bool known;		/* all registrations are later than read: if it is valid, all are */
	bool doomed;		/* the reaper is about to make the caches drop the range */
	struct invlock_read read;
};

/* guarded by the monitor's lock */
struct records {
	struct fi_record *table[RECORDS_BUCKETS];
	unsigned int nr;
	unsigned int hand;	/* the bucket where the reaper goes on */
};

struct fi_record *records_find(const struct records *records, const void *addr, size_t len);

/* a record without subscriptions; NULL = memory is short */
struct fi_record *records_add(struct records *records, const void *addr, size_t len);
void records_remove(struct records *records, struct fi_record *r);

/* May a registration of the range be used? */
bool record_is_good(struct fi_record *r);

/*
 * Marks up to @nr records as doomed that are not good, or too many. Return: how many; their ranges
 * are in @ret_doomed, as copies.
 */
unsigned int records_doom(struct records *records, struct fi_record *ret_doomed, unsigned int nr);

#endif /* INVLOCK_OFI_RECORDS_H */
