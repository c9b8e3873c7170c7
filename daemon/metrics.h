/* SPDX-License-Identifier: MIT */
/* The page of metrics, in the text format of OpenMetrics 1.0. docs/operators.md explains it. */
#ifndef INVLOCK_DAEMON_METRICS_H
#define INVLOCK_DAEMON_METRICS_H

#include <stddef.h>

struct clients;

/*
 * Writes the page as it is now. Return: text that the caller frees, of *ret_len bytes; NULL = out
 * of memory.
 */
char *metrics_page(struct clients *clients, size_t *ret_len);

#endif /* INVLOCK_DAEMON_METRICS_H */
