/* SPDX-License-Identifier: MIT */
/*
 * A userfaultfd that holds calls in their middle. A call that changes memory of it makes an event,
 * and goes on when the event has been read.
 */
#ifndef INVLOCK_TESTS_HOLD_H
#define INVLOCK_TESTS_HOLD_H

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * @events: UFFD_FEATURE_EVENT_*, for the calls to hold. @ret_features: all that the kernel can do;
 * may be NULL. Return: the descriptor; -1 and errno on error
 */
static inline int hold_open(uint64_t events, uint64_t *ret_features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = events };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -1;
	if (ret_features)
		*ret_features = api.features;
	return fd;
}

/*
 * @mode: UFFDIO_REGISTER_MODE_MISSING: afterwards an access to a page that is not there waits for
 * ever; UFFDIO_REGISTER_MODE_WP: no access waits. Return: 0; -1 and errno on error
 */
static inline int hold_memory(int fd, void *at, size_t len, uint64_t mode)
{
	struct uffdio_register reg = { .range = { (uintptr_t)at, len }, .mode = mode };

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

/* Waits for a call, @timeout_ms long, or for ever if it is -1. Return: true = one is held. */
static inline bool hold_await(int fd, int timeout_ms)
{
	struct pollfd event = { .fd = fd, .events = POLLIN };

	return poll(&event, 1, timeout_ms) == 1;
}

/* Waits for a call, and lets it go. Return: UFFD_EVENT_* */
static inline int hold_let_go(int fd)
{
	struct uffd_msg msg;

	if (!hold_await(fd, -1) || read(fd, &msg, sizeof(msg)) != sizeof(msg))
		abort();
	return msg.event;
}

#endif /* INVLOCK_TESTS_HOLD_H */
