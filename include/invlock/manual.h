/* SPDX-License-Identifier: MIT */
/*
 * The manual monitor: the program itself, or a GPU runtime, reports the changes.
 *
 * It sees the changes that are reported to it, and nothing else. Open it by its name, "manual".
 */
#ifndef INVLOCK_MANUAL_H
#define INVLOCK_MANUAL_H

#include <invlock/mm.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * invlock_manual_start() - report that a range is about to change
 * @mm: opened with monitor "manual"
 * @addr: first byte
 * @len: bytes; 0, or a range that wraps, is reported as the whole address space
 *
 * To be followed by invlock_manual_end() with the same range, on any thread. Starts
 * nest and overlap freely.
 * Context: any, also a signal handler: never sleeps, allocates or takes a lock.
 * Return: 0; -EINVAL for NULL or an mm of another monitor; -EOWNERDEAD in a forked
 * child. Since: 0.1
 */
int invlock_manual_start(struct invlock_mm *mm, const void *addr, size_t len)
	INVLOCK_ONLY_ADDRESS(2);

/**
 * invlock_manual_end() - report that a range has changed
 * @mm: as in the start
 * @addr: as in the start
 * @len: as in the start
 *
 * Context, return: as for invlock_manual_start(). An end without a start cannot be told from
 * the end of another start, so the caller has to pair them correctly.
 * Since: 0.1
 */
int invlock_manual_end(struct invlock_mm *mm, const void *addr, size_t len)
	INVLOCK_ONLY_ADDRESS(2);

#ifdef __cplusplus
}
#endif

#endif /* INVLOCK_MANUAL_H */
