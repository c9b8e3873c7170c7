// SPDX-License-Identifier: MIT
#include "turn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "core/port.h"

#define LOOK_AGAIN_NS	10000000

int turn_take(unsigned long long wait_ns)
{
	const struct timespec pause = { .tv_nsec = LOOK_AGAIN_NS };
	/* This file exists on every kernel, nobody else locks it, and opening it does nothing. */
	int fd = open("/proc/vmallocinfo", O_RDONLY | O_CLOEXEC);
	u64 begun = port_now();

	if (fd < 0)
		return -1;
	/* Do not wait in flock(): a process that is stopped in its turn would stop all others. */
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK || port_now() - begun >= wait_ns) {
			close(fd);
			return -1;
		}
		nanosleep(&pause, NULL);
	}
	return fd;
}

void turn_end(int turn)
{
	if (turn < 0)
		return;
	/* a child that was forked meanwhile has the file open, too */
	flock(turn, LOCK_UN);
	close(turn);
}
