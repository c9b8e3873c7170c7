// SPDX-License-Identifier: MIT
#include "own_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/port.h"

#define MARK_NS		100000	/* an interval is longer than asked for by less: see own_timer */

void own_fd_set(struct own_fd *own, int fd)
{
	struct stat st = {};

	/* If fstat() fails, ino stays 0, which means: trust the descriptor. No file has inode 0. */
	if (fd >= 0)
		fstat(fd, &st);
	*own = (struct own_fd){ .fd = fd, .dev = st.st_dev, .ino = st.st_ino };
}

void own_fd_set_high(struct own_fd *own, int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, OWN_FD_HIGH);

	if (high >= 0)
		close(fd);
	own_fd_set(own, high < 0 ? fd : high);
}

/*
 * Makes the system call itself: ThreadSanitizer watches libc's fstat(), and would report a race if
 * the number now belongs to a file of another thread.
 */
bool own_fd_is(const struct own_fd *own)
{
	struct stat st;

	if (own->fd < 0)
		return false;
	if (!own->ino)
		return true;
	/* another error does not tell which file it is */
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

int own_timer_create(struct own_timer *own, uint64_t ms)
{
	struct itimerspec stopped;
	int err;

	own->interval = (struct timespec){
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000 + 1 + port_now() % (MARK_NS - 1),
	};
	own->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (own->fd < 0)
		return -errno;
	stopped = (struct itimerspec){ .it_interval = own->interval };
	if (timerfd_settime(own->fd, 0, &stopped, NULL)) {
		err = -errno;
		close(own->fd);
		return err;
	}
	return 0;
}

int own_timer_fd(struct own_timer *own)
{
	int fd = port_load(&own->fd);
	struct itimerspec t;

	if (fd < 0)
		return -1;
	if (timerfd_gettime(fd, &t)) {
		/* another error does not tell which file it is */
		if (errno != EBADF && errno != EINVAL)
			return fd;
	} else if (t.it_interval.tv_sec == own->interval.tv_sec &&
		   t.it_interval.tv_nsec == own->interval.tv_nsec) {
		return fd;
	}
	port_store(&own->fd, -1);
	return -1;
}

bool own_timer_set(struct own_timer *own, struct timespec first)
{
	struct itimerspec t = { .it_interval = own->interval, .it_value = first };
	int fd = own_timer_fd(own);

	return fd < 0 || !timerfd_settime(fd, 0, &t, NULL);
}

void own_timer_close(struct own_timer *own)
{
	int fd = own_timer_fd(own);

	if (fd >= 0)
		close(fd);
}
