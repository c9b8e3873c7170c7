/* SPDX-License-Identifier: MIT */
/* Run something in a child that is shut in first, and hear how it went. */
#ifndef INVLOCK_TESTS_HOSTILE_PLACES_H
#define INVLOCK_TESTS_HOSTILE_PLACES_H

#include <stdbool.h>
#include <invlock/mm.h>

struct place_outcome {
	int err;		/* of the open; 0 = it worked */
	char monitor[16];	/* which one */
	char why[sizeof(struct invlock_why)];		/* the sentence */
	int check;		/* rig_check(): 0 = a change was seen */
	int close;		/* rig_try_close() */
	bool clean;		/* as many file descriptors and threads as before */
	bool shut_in;		/* false = the machine did not let us prepare the place */
	bool died;		/* by a signal, or without a word */
};

/*
 * In a child: prepare(arg), then open the monitor (NULL = the first), see a change, close.
 * prepare() says whether it could.
 */
struct place_outcome open_in(bool (*prepare)(long arg), long arg, const char *monitor);

/* for a prepare(): from here on as a user without privilege; true also where it is one */
bool become_nobody(void);

/* works, or refuses with a sentence; leaves nothing behind. Fails the test otherwise */
void works_or_says_why(const struct place_outcome *outcome);

#endif /* INVLOCK_TESTS_HOSTILE_PLACES_H */
