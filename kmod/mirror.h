/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef INVLOCK_MIRROR_H
#define INVLOCK_MIRROR_H

extern unsigned int mirror_delay_us;	/* a module parameter: between walk and commit */

int mirror_init(void);
void mirror_exit(void);

/* the one to compare with: mirror_interval.c */
int mirror_interval_init(void);
void mirror_interval_exit(void);

#endif /* INVLOCK_MIRROR_H */
