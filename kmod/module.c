// SPDX-License-Identifier: GPL-2.0-only
/*
 * invlock.ko, which is for production: what happens when it is loaded and unloaded. test_module.c
 * is the same for invlock_test.ko.
 */
#include <linux/module.h>

#include "feed.h"

static int __init invlock_init(void)
{
	return invlock_feed_init();
}

static void __exit invlock_exit(void)
{
	invlock_feed_exit();
}

module_init(invlock_init);
module_exit(invlock_exit);

MODULE_DESCRIPTION("Invalidation lock: never act on a stale translation of an address space");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
