/* SPDX-License-Identifier: MIT */
/*
 * A read by the device on its own thread, so that a test can change the map in the middle of it. It
 * is static: a test that fails is left in the middle, and the thread writes here all the same.
 */
#ifndef INVLOCK_TESTS_VM_READER_H
#define INVLOCK_TESTS_VM_READER_H

#include "device.h"

#include <pthread.h>

#include "core/port.h"

struct device_reader {
	pthread_t thread;
	int fd;
	struct invlock_mirror_access access;
	char byte;
	int result;
	bool done;		/* the rest is set; atomic */
};

static inline void *read_once(void *arg)
{
	struct device_reader *r = arg;

	r->result = mirror_do(r->fd, &r->access);
	port_store_release(&r->done, true);
	return NULL;
}

static inline void start_read(struct device_reader *r, int fd, const void *addr,
			      unsigned int rounds)
{
	*r = (struct device_reader){
		.fd = fd,
		.access = {
			.op = INVLOCK_MIRROR_READ,
			.addr = (unsigned long)addr,
			.len = 1,
			.buffer = (unsigned long)&r->byte,
			.rounds = rounds,
			/* rounds end these reads, not time */
			.time_ns = 60000000000ULL,
		},
	};
	assert_int_equal(pthread_create(&r->thread, NULL, read_once, r), 0);
}

static inline void finish_read(struct device_reader *r)
{
	assert_int_equal(pthread_join(r->thread, NULL), 0);
}

#endif /* INVLOCK_TESTS_VM_READER_H */
