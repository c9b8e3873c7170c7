/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef INVLOCK_FEED_DEV_H
#define INVLOCK_FEED_DEV_H

int invlock_feed_init(void);
void invlock_feed_exit(void);

#endif /* INVLOCK_FEED_DEV_H */
