// SPDX-License-Identifier: GPL-2.0-only
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/xarray.h>

#include "feed_limit.h"

static unsigned int user_feeds = 64;
module_param(user_feeds, uint, 0644);
MODULE_PARM_DESC(user_feeds, "feeds that a user without CAP_SYS_RESOURCE may have, one a process");

/* uid to number; guarded by its lock. Feeds are freed where bottom halves are off */
static DEFINE_XARRAY_FLAGS(numbers, XA_FLAGS_LOCK_BH | XA_FLAGS_ACCOUNT);

int feed_limit_charge(kuid_t user)
{
	bool unlimited = capable(CAP_SYS_RESOURCE);
	unsigned long nr;
	int err = -ENOSPC;
	void *old;

	xa_lock_bh(&numbers);
	nr = xa_to_value(xa_load(&numbers, __kuid_val(user)));
	if (unlimited || nr < READ_ONCE(user_feeds)) {
		old = __xa_store(&numbers, __kuid_val(user), xa_mk_value(nr + 1),
				 GFP_NOWAIT | __GFP_NOWARN);
		err = xa_err(old);
	}
	xa_unlock_bh(&numbers);
	return err;
}

void feed_limit_uncharge(kuid_t user)
{
	unsigned long nr;

	xa_lock_bh(&numbers);
	nr = xa_to_value(xa_load(&numbers, __kuid_val(user)));
	/* exchanges an entry, or takes it out: nothing is allocated */
	__xa_store(&numbers, __kuid_val(user), nr > 1 ? xa_mk_value(nr - 1) : NULL, GFP_NOWAIT);
	xa_unlock_bh(&numbers);
}
