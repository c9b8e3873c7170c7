/* SPDX-License-Identifier: MIT */
/*
 * The jobs into which faults are put: a life with the library, from the first open to the last
 * close. Like a program, the job continues after an error. It checks:
 *
 *	stale	The device reads the stamp on each page that it registers, and a change of the map
 *		brings a page with another stamp. A valid pin must have the present stamp.
 *	leaks	Each registration is undone exactly once.
 *	errors	They are those that the headers name, and each failed open has a sentence.
 *
 * A second life without a fault follows in the same process, and must succeed in everything.
 */
#ifndef INVLOCK_TESTS_FAULT_JOB_H
#define INVLOCK_TESTS_FAULT_JOB_H

#include "inject.h"

/* The parent sets this before inject(). */
struct job_options {
	const char *monitor;
	bool reaper;
	bool selftest;		/* its maps and unmaps are not all counted */
};

extern struct job_options job_options;

void job_cache(const struct fault *f, struct outcome *out);
void job_uring(const struct fault *f, struct outcome *out);

#endif /* INVLOCK_TESTS_FAULT_JOB_H */
