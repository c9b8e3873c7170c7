/* SPDX-License-Identifier: GPL-2.0-only */
/* Limits how many feeds a user may have, because each takes 2.6 MiB of the kernel's memory. */
#ifndef INVLOCK_FEED_LIMIT_H
#define INVLOCK_FEED_LIMIT_H

#include <linux/uidgid.h>

/* Call this before anything else, when the module is loaded. */
void invlock_feed_limit_init(void);

/* Context: never sleeps. Return: 0; -ENOSPC if the user has reached the limit; -ENOMEM. */
int invlock_feed_limit_charge(kuid_t user);

/* Context: never sleeps; in a process, as all calls here. */
void invlock_feed_limit_uncharge(kuid_t user);

#endif /* INVLOCK_FEED_LIMIT_H */
