/* SPDX-License-Identifier: MIT */
/*
 * A descriptor that the program may close, as closefrom(3) does, and whose number may then be a
 * file of the program's: before it is read, written or closed, it is looked at.
 *
 * For files that have an inode of their own, as pipes, userfaultfds and what lies in /proc; all
 * eventfds and timerfds share one.
 */
#ifndef INVLOCK_LIB_OWN_FD_H
#define INVLOCK_LIB_OWN_FD_H

#include <stdbool.h>
#include <sys/types.h>

struct own_fd {
	int fd;		/* -1 = none */
	dev_t dev;
	ino_t ino;
};

/* remember which file a new descriptor is; -1 is none */
void own_fd_set(struct own_fd *own, int fd);

/* is it still that file? A system call */
bool own_fd_is(const struct own_fd *own);

/* close it if it is, and only once */
void own_fd_close(struct own_fd *own);

#endif /* INVLOCK_LIB_OWN_FD_H */
