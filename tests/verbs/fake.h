/* SPDX-License-Identifier: MIT */
/* A fake of what the adapter calls of libibverbs: no device, only numbers. */
#ifndef INVLOCK_TESTS_VERBS_FAKE_H
#define INVLOCK_TESTS_VERBS_FAKE_H

#include <infiniband/verbs.h>
#include <stdatomic.h>

extern struct fake_verbs {
	atomic_uint nr_reg, nr_dereg;
	int fail_with;			/* registrations fail with this errno; 0 = none fails */
	atomic_int fail_times;		/* only so many; -1 = all */
	int dereg_fails;		/* each deregistration returns this */
	atomic_uint bytes;		/* registered now */
	unsigned int max_bytes;		/* more is ENOMEM, if it is not 0 */
} fake_verbs;

/* Are these the keys of a region that exists, in this domain, with these rights? */
int fake_is_live(uint32_t lkey, const struct ibv_pd *pd, unsigned int access);

#endif /* INVLOCK_TESTS_VERBS_FAKE_H */
