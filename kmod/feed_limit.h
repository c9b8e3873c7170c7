/* SPDX-License-Identifier: GPL-2.0-only */
/* How many feeds a user may have: each is some 2.6 MiB of the kernel's memory. */
#ifndef INVLOCK_FEED_LIMIT_H
#define INVLOCK_FEED_LIMIT_H

#include <linux/uidgid.h>

/* Context: never sleeps. Return: 0; -ENOSPC: that user has enough; -ENOMEM */
int feed_limit_charge(kuid_t user);

/* Context: any but a hard interrupt; fit for ->free_notifier */
void feed_limit_uncharge(kuid_t user);

#endif /* INVLOCK_FEED_LIMIT_H */
