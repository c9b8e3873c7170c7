/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef INVLOCK_MIRROR_H
#define INVLOCK_MIRROR_H

/* the module's parameters delay_us and publish_us */
extern unsigned int invlock_mirror_delay_us, invlock_mirror_publish_us;

int invlock_mirror_init(void);
void invlock_mirror_exit(void);

/* In mirror_interval.c: the same device on mmu_interval_notifier, with mmu_invlock and without. */
int invlock_interval_init(void);
void invlock_interval_exit(void);

#endif /* INVLOCK_MIRROR_H */
