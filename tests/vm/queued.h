/* SPDX-License-Identifier: MIT */
/*
 * Threads that are told what to do while something is held. While that is the mmap lock, no thread
 * of the program may touch a page that is not mapped.
 */
#ifndef INVLOCK_TESTS_VM_QUEUED_H
#define INVLOCK_TESTS_VM_QUEUED_H

#include <pthread.h>

#include "device.h"

/* Work for a thread that is created before that; static, like that of drill_rig.h. */
struct queued_work {
	pthread_t thread;
	void (*run)(struct queued_work *w);
	char *page;
	int fd;
	pid_t tid;
	int go, done;		/* atomic */
	char byte;
	int result;
};

static inline void *run_when_told(void *arg)
{
	struct queued_work *w = arg;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&w->go, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	w->run(w);
	__atomic_store_n(&w->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static inline void begin(struct queued_work *w)
{
	assert_int_equal(pthread_create(&w->thread, NULL, run_when_told, w), 0);
	while (!__atomic_load_n(&w->tid, __ATOMIC_ACQUIRE))
		sleep_ms(1);
}

static inline void tell(struct queued_work *w)
{
	__atomic_store_n(&w->go, 1, __ATOMIC_RELEASE);
}

static inline void finish(struct queued_work *w)
{
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	assert_int_equal(w->result, 0);
}

/* Return: does the thread block, in state D? It can only be waiting for what is held then. */
static inline bool blocks(const struct queued_work *w)
{
	while (!__atomic_load_n(&w->done, __ATOMIC_ACQUIRE)) {
		if (thread_state(w->tid) == 'D')
			return true;
		sleep_ms(1);
	}
	return false;
}

/* Work: discard the first page of the file fd. This takes no mmap lock. */
static inline void punch_hole(struct queued_work *w)
{
	w->result = fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
}

/* Work: read a byte of the page by the mirror fd. */
static inline void read_by_device(struct queued_work *w)
{
	w->result = mirror_read(w->fd, w->page, &w->byte, 1);
}

#endif /* INVLOCK_TESTS_VM_QUEUED_H */
