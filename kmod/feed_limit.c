// SPDX-License-Identifier: GPL-2.0-only
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/xarray.h>

#include "feed_limit.h"

static unsigned int user_feeds = 64;
module_param(user_feeds, uint, 0644);
MODULE_PARM_DESC(user_feeds,
		 "how many processes of a user without CAP_SYS_RESOURCE may have a feed");

/* Maps a uid to its number of feeds. Uses the _bh lock: feeds may be freed in a softirq. */
static DEFINE_XARRAY_FLAGS(invlock_feed_limit_counts, XA_FLAGS_LOCK_BH | XA_FLAGS_ACCOUNT);

int invlock_feed_limit_charge(kuid_t user)
{
	bool unlimited = capable(CAP_SYS_RESOURCE);
	unsigned long nr;
	int err = -ENOSPC;
	void *old;

	xa_lock_bh(&invlock_feed_limit_counts);
	nr = xa_to_value(xa_load(&invlock_feed_limit_counts, __kuid_val(user)));
	if (unlimited || nr < READ_ONCE(user_feeds)) {
		old = __xa_store(&invlock_feed_limit_counts, __kuid_val(user), xa_mk_value(nr + 1),
				 GFP_NOWAIT | __GFP_NOWARN);
		err = xa_err(old);
	}
	xa_unlock_bh(&invlock_feed_limit_counts);
	return err;
}

void invlock_feed_limit_uncharge(kuid_t user)
{
	unsigned long nr;

	xa_lock_bh(&invlock_feed_limit_counts);
	nr = xa_to_value(xa_load(&invlock_feed_limit_counts, __kuid_val(user)));
	/* replaces or removes an entry, so it allocates nothing and cannot fail */
	__xa_store(&invlock_feed_limit_counts, __kuid_val(user),
		   nr > 1 ? xa_mk_value(nr - 1) : NULL, GFP_NOWAIT);
	xa_unlock_bh(&invlock_feed_limit_counts);
}
