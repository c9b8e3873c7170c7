// SPDX-License-Identifier: MIT
#include "own_fd.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void own_fd_set(struct own_fd *own, int fd)
{
	struct stat st = {};

	/* an error, if there can be one, leaves ino 0, which no file has: then it is trusted */
	if (fd >= 0)
		fstat(fd, &st);
	*own = (struct own_fd){ .fd = fd, .dev = st.st_dev, .ino = st.st_ino };
}

/* as the system call, not libc's: a tool would take the look at another thread's file for a race */
bool own_fd_is(const struct own_fd *own)
{
	struct stat st;

	if (own->fd < 0)
		return false;
	if (!own->ino)
		return true;
	/* another error says nothing about the file */
	if (syscall(SYS_fstat, own->fd, &st))
		return errno != EBADF;
	return st.st_dev == own->dev && st.st_ino == own->ino;
}

void own_fd_close(struct own_fd *own)
{
	if (own_fd_is(own))
		close(own->fd);
	own->fd = -1;
}
