// SPDX-License-Identifier: GPL-2.0-only
/*
 * invlock_test.ko: the mirrors, which are examples of drivers, and serve the tests. Its parameters,
 * and what happens when it is loaded and unloaded.
 */
#include <linux/module.h>

#include "mirror.h"

unsigned int invlock_mirror_delay_us;
module_param_named(delay_us, invlock_mirror_delay_us, uint, 0600);
MODULE_PARM_DESC(delay_us, "how many microseconds a fault waits between walk and commit");

unsigned int invlock_mirror_publish_us;
module_param_named(publish_us, invlock_mirror_publish_us, uint, 0600);
MODULE_PARM_DESC(publish_us,
		 "how many microseconds a fault whose lock sleeps waits before it publishes");

static int __init invlock_test_init(void)
{
	int err = invlock_mirror_init();

	if (err)
		return err;
	err = invlock_interval_init();
	if (err)
		invlock_mirror_exit();
	return err;
}

static void __exit invlock_test_exit(void)
{
	invlock_interval_exit();
	invlock_mirror_exit();
}

module_init(invlock_test_init);
module_exit(invlock_test_exit);

MODULE_DESCRIPTION("Mirrors of an address space, as examples and tests of invlock");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
