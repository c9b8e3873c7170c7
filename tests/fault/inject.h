/* SPDX-License-Identifier: MIT */
/*
 * One fault: a job runs in a forked child, and in it the nth allocation, or the nth system
 * call, fails. inject.c has the system calls, a debugger's way: every thread and every
 * library is reached, raw calls too. allocations.c has malloc and its family, which this
 * program has for itself and for the libraries that it uses.
 *
 * Only what happens while the job's window is open can fail, and is counted.
 */
#ifndef INVLOCK_TESTS_FAULT_INJECT_H
#define INVLOCK_TESTS_FAULT_INJECT_H

#include <stdbool.h>
#include <stddef.h>

enum fault_kind { FAULT_NONE, FAULT_ALLOCATION, FAULT_SYSCALL };

struct fault {
	enum fault_kind kind;
	unsigned int nth;	/* from 1 */
	bool and_all_later;	/* allocations only */
	int err;		/* of the system call */
};

/* what the process holds; a job that leaks holds more than one that does not */
struct holdings {
	long blocks;		/* of malloc */
	long mapped;		/* bytes */
	long fds;
};

/* shared by parent and child */
struct outcome {
	struct holdings holdings;	/* at the end of the job */
	unsigned int nr_allocations;	/* in its window */
	unsigned int nr_syscalls;
	long met;			/* number of the system call that failed; -1 = none */
	bool met_allocation;
	bool ended;			/* the job came to its end */
	char wrong[200];		/* the job's own complaint; empty = none */
};

typedef void job_fn(const struct fault *f, struct outcome *out);

/**
 * inject() - run a job with a fault
 * @f: the fault
 * @job: runs in a child of its own
 * @out: what came of it
 *
 * A child that crashes, or hangs for longer than any machine is slow, is described in
 * @out->wrong. Return: 0; -errno when faults cannot be injected here.
 */
int inject(const struct fault *f, job_fn *job, struct outcome *out);

/* in the job; it may do so more than once */
void inject_window(bool open);

/* say what is wrong, the first time; the job goes on */
__attribute__((format(printf, 2, 3)))
void complain(struct outcome *out, const char *format, ...);

/* allocations.c. Which is to fail; 0 = none */
void allocations_fail(unsigned int nth, bool and_all_later);
void allocations_window(bool open);
/* how many there were; has one failed? */
unsigned int allocations_made(bool *ret_failed);
void allocations_held(struct holdings *ret);

#endif /* INVLOCK_TESTS_FAULT_INJECT_H */
