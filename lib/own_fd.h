/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that the program may close.
 *
 * closefrom(3) is how a daemon begins, and a number that it closed may then be that of a file of
 * the program's. So the library neither reads, writes nor closes a descriptor before it knows that
 * the number still stands for its own file. How it knows depends on the file:
 *
 *	pipe, userfaultfd, /proc	struct own_fd: the file has an inode of its own
 *	timerfd				struct own_timer: all timerfds share an inode, but no
 *					other timer has the interval of this one
 *	BPF program, map, link		progset_close_fd() asks the kernel whether it is one
 *
 * Two files need more than that:
 *
 * - A hit asks the userfaultfd, and has no time to look at the file first. So its number is so high
 *   that the program does not get it by chance: own_fd_set_high().
 * - The BPF programs must go on when their descriptors are closed. An io_uring that has no
 *   descriptor either holds them (keep.h).
 */
#ifndef INVLOCK_LIB_OWN_FD_H
#define INVLOCK_LIB_OWN_FD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define OWN_FD_HIGH	960

struct own_fd {
	int fd;		/* -1 = none */
	dev_t dev;
	ino_t ino;
};

/* note which file a new descriptor is; -1 is none */
void own_fd_set(struct own_fd *own, int fd);

/* the same, after it got a number of OWN_FD_HIGH or more, if the limit on descriptors allows it */
void own_fd_set_high(struct own_fd *own, int fd);

/* Does the number still stand for that file? Makes a system call. */
bool own_fd_is(const struct own_fd *own);

/* Close the descriptor if own_fd_is(). A second call does nothing. */
void own_fd_close(struct own_fd *own);

struct own_timer {
	int fd;				/* -1 = the program has closed it; no lock guards it */
	struct timespec interval;	/* constant */
};

/* a timer that fires about every @ms milliseconds once it is set; 0 or -errno */
int own_timer_create(struct own_timer *own, uint64_t ms);

/* Return: the timer's descriptor; -1 when the program has closed it. Makes a system call. */
int own_timer_fd(struct own_timer *own);

/*
 * @first: the time until the timer fires first; 0 = the timer stops
 * Return: false = try again. A timer that the program has closed needs no other try.
 */
bool own_timer_set(struct own_timer *own, struct timespec first);

void own_timer_close(struct own_timer *own);

#endif /* INVLOCK_LIB_OWN_FD_H */
