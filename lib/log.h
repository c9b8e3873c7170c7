/* SPDX-License-Identifier: MIT */
/* What the library tells the program's log. */
#ifndef INVLOCK_LIB_LOG_H
#define INVLOCK_LIB_LOG_H

#include <invlock/log.h>
#include <stdbool.h>

/* Has the program set a function? For text that costs something. */
bool log_is_set(void);

/* Locks: none of the library. */
__attribute__((format(printf, 2, 3)))
void log_event(enum invlock_log_event event, const char *format, ...);

#endif /* INVLOCK_LIB_LOG_H */
