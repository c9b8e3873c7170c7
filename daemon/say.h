/* SPDX-License-Identifier: MIT */
/* What the daemon says on stderr, which is the journal's. */
#ifndef INVLOCK_DAEMON_SAY_H
#define INVLOCK_DAEMON_SAY_H

/*
 * Says a line. No more than SAY_PER_SECOND of them are said in a second, so that no client can fill
 * the journal; the number of those that were left out is said later.
 */
#define SAY_PER_SECOND	20

__attribute__((format(printf, 1, 2)))
void say(const char *format, ...);

#endif /* INVLOCK_DAEMON_SAY_H */
