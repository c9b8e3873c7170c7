/* SPDX-License-Identifier: MIT */
#ifndef INVLOCK_LIB_SELFTEST_SELFTEST_H
#define INVLOCK_LIB_SELFTEST_SELFTEST_H

#include <invlock/mm.h>

/**
 * selftest() - does the monitor see what it says that it sees?
 * @mm: open
 * @why: NULL, or filled with a sentence on error
 *
 * Makes the quick changes, for real, in memory of its own.
 * Context: may sleep. Return: 0; -EOPNOTSUPP when a change of a kind that the monitor
 * claims was missed, or when not one was seen.
 */
int selftest(struct invlock_mm *mm, struct invlock_why *why);

#endif /* INVLOCK_LIB_SELFTEST_SELFTEST_H */
