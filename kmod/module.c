// SPDX-License-Identifier: GPL-2.0-only
/* invlock.ko: options, load and unload. */
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/string.h>

#include "bad.h"
#include "feed.h"
#include "mirror.h"

unsigned int mirror_delay_us;
module_param_named(delay_us, mirror_delay_us, uint, 0600);
MODULE_PARM_DESC(delay_us, "for tests: microseconds between the walk and the commit of a fault");

static bool interval;
module_param(interval, bool, 0400);
MODULE_PARM_DESC(interval, "for tests: /dev/invlock_interval, too, which does without mmu_invlock");

static char *bad;
module_param(bad, charp, 0400);
MODULE_PARM_DESC(bad, "a planted failure, for tests only: makes invlock wrong on purpose");

enum bad bad_chosen;

static const char *const bad_names[NR_BAD] = {
	[BAD_NOTHING] = "",
	[BAD_UNCHECKED] = "unchecked",
	[BAD_LATE] = "late",
	[BAD_HOIST] = "hoist",
	[BAD_ENTRY] = "entry",
	[BAD_SLOW] = "slow",
	[BAD_INTEREST] = "interest",
	[BAD_END] = "end",
	[BAD_START] = "start",
	[BAD_FREE] = "free",
	[BAD_RACE] = "race",
	[BAD_ALLOC] = "alloc",
	[BAD_ERRNO] = "errno",
	[BAD_WAKE] = "wake",
	[BAD_LEAK] = "leak",
};

static int __init invlock_init(void)
{
	int chosen = match_string(bad_names, NR_BAD, bad ?: "");
	int err;

	if (chosen < 0) {
		pr_err("invlock: there is no planted failure \"%s\"\n", bad);
		return -EINVAL;
	}
	bad_chosen = chosen;
	if (bad_chosen)
		pr_warn("invlock: WRONG ON PURPOSE: bad=%s\n", bad);
	err = feed_init();
	if (err)
		return err;
	err = mirror_init();
	if (err)
		goto exit_feed;
	err = interval ? mirror_interval_init() : 0;
	if (err)
		goto exit_mirror;
	return 0;

exit_mirror:
	mirror_exit();
exit_feed:
	feed_exit();
	return err;
}

static void __exit invlock_exit(void)
{
	if (interval)
		mirror_interval_exit();
	mirror_exit();
	feed_exit();
	/* the last locks are freed by callbacks that lie in this module */
	mmu_notifier_synchronize();
}

module_init(invlock_init);
module_exit(invlock_exit);

MODULE_DESCRIPTION("Invalidation lock: never act on a stale translation of an address space");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
