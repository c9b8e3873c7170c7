/* SPDX-License-Identifier: MIT */
/*
 * The jobs that faults are put into: a life with the library, from the first open to the last
 * close, which goes on past every error as a program would, and checks.
 *
 *	stale	a device that translates reads the stamp on each page; a change of the map
 *		brings a page with another stamp; a valid pin must have today's
 *	leaks	each registration is undone once
 *	errors	are those that the headers name, with a sentence from every open
 *
 * A second life without a fault follows in the same process, and must succeed in all.
 */
#ifndef INVLOCK_TESTS_FAULT_JOB_H
#define INVLOCK_TESTS_FAULT_JOB_H

#include "inject.h"

/* set by the parent, before inject() */
struct job_options {
	const char *monitor;
	bool reaper;
	bool selftest;		/* it maps and unmaps in ways that are not counted as mapped */
};

extern struct job_options job_options;

void job_cache(const struct fault *f, struct outcome *out);
void job_uring(const struct fault *f, struct outcome *out);

#endif /* INVLOCK_TESTS_FAULT_JOB_H */
