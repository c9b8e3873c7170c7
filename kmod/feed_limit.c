// SPDX-License-Identifier: GPL-2.0-only
#include <linux/capability.h>
#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/xarray.h>

#include "feed_limit.h"

/* A node of a cluster runs a process on each CPU for one user, and some beside them. */
#define FEEDS_PER_CPU	4U
#define FEEDS_AT_LEAST	128U

static unsigned int user_feeds;
module_param(user_feeds, uint, 0644);
MODULE_PARM_DESC(user_feeds,
		 "how many feeds a user may have without CAP_SYS_RESOURCE (default: 4 a CPU)");

/* Maps a uid to its number of feeds. */
static DEFINE_XARRAY_FLAGS(invlock_feed_limit_counts, XA_FLAGS_ACCOUNT);

void invlock_feed_limit_init(void)
{
	if (!user_feeds)
		user_feeds = max(FEEDS_PER_CPU * num_possible_cpus(), FEEDS_AT_LEAST);
}

/* Locks: invlock_feed_limit_counts.xa_lock. */
static unsigned long invlock_feed_limit_count(kuid_t user)
{
	lockdep_assert_held(&invlock_feed_limit_counts.xa_lock);
	return xa_to_value(xa_load(&invlock_feed_limit_counts, __kuid_val(user)));
}

/* Return: 0; -ENOMEM; -ENOSPC if the user has @limit feeds. */
static int invlock_feed_limit_charge_below(kuid_t user, unsigned long limit)
{
	unsigned long nr;
	int err = -ENOSPC;
	void *old;

	xa_lock(&invlock_feed_limit_counts);
	nr = invlock_feed_limit_count(user);
	if (nr < limit) {
		old = __xa_store(&invlock_feed_limit_counts, __kuid_val(user), xa_mk_value(nr + 1),
				 GFP_NOWAIT | __GFP_NOWARN);
		err = xa_err(old);
	}
	xa_unlock(&invlock_feed_limit_counts);
	return err;
}

int invlock_feed_limit_charge(kuid_t user)
{
	int err = invlock_feed_limit_charge_below(user, READ_ONCE(user_feeds));

	/* ask for the capability only if it matters: an audit may log that it is missing */
	if (err == -ENOSPC && capable(CAP_SYS_RESOURCE))
		err = invlock_feed_limit_charge_below(user, ULONG_MAX);
	return err;
}

void invlock_feed_limit_uncharge(kuid_t user)
{
	unsigned long nr;

	xa_lock(&invlock_feed_limit_counts);
	nr = invlock_feed_limit_count(user);
	/* replaces or removes an entry, so it allocates nothing and cannot fail */
	__xa_store(&invlock_feed_limit_counts, __kuid_val(user),
		   nr > 1 ? xa_mk_value(nr - 1) : NULL, GFP_NOWAIT);
	xa_unlock(&invlock_feed_limit_counts);
}
