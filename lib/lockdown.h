/* SPDX-License-Identifier: MIT */
/* Is the kernel locked down, as with Secure Boot? Then it refuses what root may do otherwise. */
#ifndef INVLOCK_LIB_LOCKDOWN_H
#define INVLOCK_LIB_LOCKDOWN_H

/* where the kernel says so; tests have another */
extern const char *lockdown_file;

/* Return: "integrity" or "confidentiality"; NULL = it is not locked down, or does not say */
const char *lockdown_mode(void);

#endif /* INVLOCK_LIB_LOCKDOWN_H */
