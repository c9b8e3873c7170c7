/* SPDX-License-Identifier: MIT */
/* Calls of drill.ko, with which a test makes invalidations last, or unregisters a notifier. */
#ifndef INVLOCK_TESTS_VM_DRILL_DEVICE_H
#define INVLOCK_TESTS_VM_DRILL_DEVICE_H

#include "device.h"
#include "driver/drill.h"

/* longer than any test takes; each test releases what it holds */
#define HOLD_US		60000000

static inline int drill_open(void)
{
	int fd = open("/dev/invlock_drill", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static inline int drill_do(int fd, unsigned long request, struct drill *drill)
{
	return ioctl(fd, request, drill) ? -errno : 0;
}

static inline struct drill drill_state(int fd)
{
	struct drill drill = {};

	assert_int_equal(drill_do(fd, DRILL_STATE, &drill), 0);
	return drill;
}

static inline void wait_until_held(int fd)
{
	while (!drill_state(fd).held)
		sleep_ms(1);
}

/* From now on, every invalidation of that range lasts @us, if it may sleep. */
static inline void drill_hold(int fd, const void *addr, size_t len, unsigned int us)
{
	struct drill drill = { .addr = (unsigned long)addr, .len = len, .hold_us = us };

	assert_int_equal(drill_do(fd, DRILL_HOLD, &drill), 0);
}

static inline void drill_let_go(int fd)
{
	drill_hold(fd, NULL, 0, 0);
}

/* A teardown: what a failed test still holds would hold this program, too. */
static inline int let_go_of_everything(void **state)
{
	struct drill none = {};

	(void)state;
	for (int fd = 3; fd < 100; fd++)
		ioctl(fd, DRILL_HOLD, &none);
	return 0;
}

#endif /* INVLOCK_TESTS_VM_DRILL_DEVICE_H */
