/* SPDX-License-Identifier: MIT */
/* Runs something in a child that is confined first, and reports how it went. */
#ifndef INVLOCK_TESTS_HOSTILE_PLACES_H
#define INVLOCK_TESTS_HOSTILE_PLACES_H

#include <stdbool.h>
#include <invlock/mm.h>

struct place_outcome {
	int err;		/* of the open; 0 = success */
	char monitor[16];	/* the monitor that was opened */
	char why[sizeof(struct invlock_why)];		/* the sentence of the error */
	int check;		/* rig_check(): 0 = a change was seen */
	int close;		/* rig_try_close() */
	bool clean;		/* as many file descriptors and threads as before */
	bool shut_in;		/* false = this machine does not allow such a place */
	bool died;		/* a signal ended the child, or it exited early */
};

/*
 * In a child: prepare(arg), then open the monitor (NULL = the first one that works), see a change,
 * close. prepare() returns whether it succeeded.
 */
struct place_outcome open_in(bool (*prepare)(long arg), long arg, const char *monitor);

/*
 * For a prepare(): become a user without privilege. Return: true also if that was already the case
 */
bool become_nobody(void);

/* Expects that the library works, or refuses with a sentence, and leaves nothing behind. */
void works_or_says_why(const struct place_outcome *outcome);

#endif /* INVLOCK_TESTS_HOSTILE_PLACES_H */
