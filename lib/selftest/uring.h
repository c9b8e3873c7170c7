/* SPDX-License-Identifier: MIT */
/* The smallest io_uring: one madvise at a time. The library does not depend on liburing. */
#ifndef INVLOCK_LIB_SELFTEST_URING_H
#define INVLOCK_LIB_SELFTEST_URING_H

#include <linux/io_uring.h>

#include "core/port.h"

struct change_uring {
	int fd;
	struct io_uring_params params;
	u8 *sq;			/* both rings */
	size_t sq_bytes;
	struct io_uring_sqe *sqes;
	size_t sqes_bytes;
};

/* 0, or -1 and errno */
int change_uring_open(struct change_uring *ring);
void change_uring_close(struct change_uring *ring);
/* submit, and wait until it is done: 0, or -1 and errno */
int change_uring_madvise(struct change_uring *ring, void *addr, size_t len, int advice);

#endif /* INVLOCK_LIB_SELFTEST_URING_H */
