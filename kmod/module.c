// SPDX-License-Identifier: GPL-2.0-only
/* invlock.ko: its parameters, and what happens when it is loaded and unloaded. */
#include <linux/module.h>

#include "feed.h"
#include "mirror.h"

unsigned int invlock_mirror_delay_us;
module_param_named(delay_us, invlock_mirror_delay_us, uint, 0600);
MODULE_PARM_DESC(delay_us,
		 "for tests: how many microseconds a fault waits between walk and commit");

static bool interval;
module_param(interval, bool, 0400);
MODULE_PARM_DESC(interval,
		 "for tests: also create /dev/invlock_interval, a mirror without mmu_invlock");

static int __init invlock_init(void)
{
	int err;

	err = invlock_feed_init();
	if (err)
		return err;
	err = invlock_mirror_init();
	if (err)
		goto exit_feed;
	err = interval ? invlock_interval_init() : 0;
	if (err)
		goto exit_mirror;
	return 0;

exit_mirror:
	invlock_mirror_exit();
exit_feed:
	invlock_feed_exit();
	return err;
}

static void __exit invlock_exit(void)
{
	if (interval)
		invlock_interval_exit();
	invlock_mirror_exit();
	invlock_feed_exit();
}

module_init(invlock_init);
module_exit(invlock_exit);

MODULE_DESCRIPTION("Invalidation lock: never act on a stale translation of an address space");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
