/* SPDX-License-Identifier: MIT */
/*
 * Whether all registrations are known to be good, in the few instructions that a lookup of
 * libfabric's cache can spare.
 *
 * The reaper looks at all records from time to time. If all were good and the monitor has marked no
 * change since, all are good still. A registration that comes later and whose range has no good
 * sample takes this back before libfabric can ask for it. In a program that neither maps nor frees
 * memory, nearly every lookup ends here.
 */
#ifndef INVLOCK_OFI_QUIET_H
#define INVLOCK_OFI_QUIET_H

#include <stdbool.h>
#include <stdint.h>
#include <invlock/mm.h>

extern struct quiet {
	const uint64_t *sequence;	/* of the feed: the number of the newest change */
	uint64_t *since;	/* all was good at this number; 0 = not known, or a forked child */
} quiet;

/* Without memory for it, nothing is ever quiet. */
void quiet_open(struct invlock_mm *mm);
void quiet_close(void);

/*
 * quiet_begin() comes before the look at all records, quiet_end() after it if all were good.
 * Return: the number that quiet_end() takes; 0 = changes are being made, or the monitor watches
 * only what it is told to
 */
uint64_t quiet_begin(struct invlock_mm *mm);

static inline void quiet_end(uint64_t number)
{
	__atomic_store_n(quiet.since, number, __ATOMIC_RELAXED);
}

static inline void quiet_forget(void)
{
	__atomic_store_n(quiet.since, 0, __ATOMIC_RELAXED);
}

static inline bool is_quiet(void)
{
	uint64_t since = __atomic_load_n(quiet.since, __ATOMIC_RELAXED);

	/* a forked child may have no feed; acquire: as in invlock_read_valid() */
	return since && __atomic_load_n(quiet.sequence, __ATOMIC_ACQUIRE) == since;
}

#endif /* INVLOCK_OFI_QUIET_H */
