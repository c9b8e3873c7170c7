/* SPDX-License-Identifier: MIT */
/*
 * Runs a job in a forked child with one fault: the nth allocation or the nth system call fails.
 * inject.c makes system calls fail as a debugger does, so it reaches every thread and library, and
 * raw calls. allocations.c replaces malloc and its family for this program and its libraries.
 *
 * Only what happens while the job's window is open is counted and can fail.
 */
#ifndef INVLOCK_TESTS_FAULT_INJECT_H
#define INVLOCK_TESTS_FAULT_INJECT_H

#include <stdbool.h>
#include <stddef.h>

enum fault_kind { FAULT_NONE, FAULT_ALLOCATION, FAULT_SYSCALL };

struct fault {
	enum fault_kind kind;
	unsigned int nth;	/* counted from 1 */
	bool and_all_later;	/* only for allocations */
	int err;		/* the error of the system call */
};

/* What the process holds. A job that leaks holds more than one that does not. */
struct holdings {
	long blocks;		/* blocks of malloc */
	long mapped;		/* mapped bytes */
	long fds;
};

/* Shared by parent and child. */
struct outcome {
	struct holdings holdings;	/* at the end of the job */
	unsigned int nr_allocations;	/* in its window */
	unsigned int nr_syscalls;
	long met;			/* number of the failed system call; -1 = none */
	bool met_allocation;
	bool ended;			/* the job returned */
	char wrong[200];		/* the job's own complaint; empty = it has none */
};

typedef void job_fn(const struct fault *f, struct outcome *out);

/**
 * inject() - run a job with a fault
 * @f: the fault
 * @job: runs in a child of its own
 * @out: filled with the outcome
 *
 * If the child crashes or hangs, @out->wrong says so. Return: 0; -errno = this machine does not
 * allow to inject faults.
 */
int inject(const struct fault *f, job_fn *job, struct outcome *out);

/* Called by the job, maybe several times. */
void inject_window(bool open);

/* Records the first complaint; the job continues. */
__attribute__((format(printf, 2, 3)))
void complain(struct outcome *out, const char *format, ...);

/* In allocations.c. Sets the allocation that is to fail; 0 = none. */
void allocations_fail(unsigned int nth, bool and_all_later);
void allocations_window(bool open);
/* Return: the number of allocations. ret_failed: whether one of them failed */
unsigned int allocations_made(bool *ret_failed);
void allocations_held(struct holdings *ret);

#endif /* INVLOCK_TESTS_FAULT_INJECT_H */
