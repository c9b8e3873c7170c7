/* SPDX-License-Identifier: MIT */
/* Discards and faults on threads and in processes of their own, which drill.ko holds. */
#ifndef INVLOCK_TESTS_VM_DRILL_RIG_H
#define INVLOCK_TESTS_VM_DRILL_RIG_H

#include "drill_device.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define AN_HOUR_NS	3600000000000ULL

/*
 * A discard or a fault on its own thread. It is static: a test that fails is left in the middle,
 * and the thread writes here all the same.
 */
struct drill_work {
	pthread_t thread;
	int fd;
	int memfd;		/* the file to discard the first len bytes of */
	size_t len;
	struct drill drill;
	pid_t tid;		/* of a fault or an unregistration; atomic */
	int result;
	bool done;		/* result is set; atomic */
};

static inline void *discard(void *arg)
{
	struct drill_work *w = arg;

	/*
	 * This takes no mmap lock, so it does not block the test. It makes one invalidation;
	 * truncation would make two.
	 */
	w->result = fallocate(w->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, w->len);
	return NULL;
}

static inline void *fault(void *arg)
{
	struct drill_work *w = arg;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	w->result = drill_do(w->fd, DRILL_FAULT, &w->drill);
	__atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static inline void *unregister(void *arg)
{
	struct drill_work *w = arg;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	w->result = drill_do(w->fd, DRILL_UNREGISTER, &w->drill);
	return NULL;
}

static inline void start(struct drill_work *w, void *(*how)(void *))
{
	assert_int_equal(pthread_create(&w->thread, NULL, how, w), 0);
}

/* Wait until the thread of a fault or an unregistration waits in the kernel. Return: it does. */
static inline bool waits(const struct drill_work *w)
{
	while (!__atomic_load_n(&w->tid, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	return becomes_blocked(w->tid);
}

static inline int finish(struct drill_work *w)
{
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	return w->result;
}

static inline struct drill_work fault_over(int fd, const void *page, unsigned int hold_us)
{
	return (struct drill_work){
		.fd = fd,
		.drill = {
			.addr = (unsigned long)page,
			.len = PAGE,
			.hold_us = hold_us,
			.time_ns = AN_HOUR_NS,
		},
	};
}

/* Wait until the drill holds a fault, which cannot end meanwhile. */
static inline void wait_until_fault_is_held(int fd)
{
	assert_true(BECOMES(drill_state(fd).held_faults));
}

static inline void wait_until_faulting(int fd)
{
	assert_true(BECOMES(drill_state(fd).faults));
}

/* Start a discard that is held in its invalidation. Return: the memory that it discards. */
static inline char *start_held_discard_of(struct drill_work *w, int fd, size_t len)
{
	char *p;

	*w = (struct drill_work){ .memfd = make_memfd(len, 0), .len = len };
	p = memory_alone(w->memfd, len);
	drill_hold(fd, p, len, HOLD_US);
	start(w, discard);
	wait_until_held(fd);
	return p;
}

static inline char *start_held_discard(struct drill_work *w, int fd)
{
	return start_held_discard_of(w, fd, PAGE);
}

/*
 * Return: did the fault end while the invalidation was held? If it did not, the invalidation ends
 * now, or this program could not.
 */
static inline bool ends_meanwhile(int fd)
{
	if (BECOMES(!drill_state(fd).faults))
		return drill_state(fd).held;
	drill_let_go(fd);
	return false;
}

/* The same for a fault of this process, which may not have begun. */
static inline bool fault_ends_meanwhile(int fd, struct drill_work *f)
{
	if (BECOMES(__atomic_load_n(&f->done, __ATOMIC_ACQUIRE)))
		return drill_state(fd).held;
	drill_let_go(fd);
	return false;
}

/* Start a process that opens the drill and calls @be. Return: a descriptor of the same file. */
static inline int start_process(void (*be)(int fd), pid_t *ret_pid, int *ret_pidfd)
{
	int ready[2], fd, pidfd, here;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork_with_us();
	if (!child) {
		fd = open("/dev/invlock_drill", O_RDWR);
		if (write(ready[1], &fd, sizeof(fd)) == sizeof(fd))
			be(fd);
		_exit(98);
	}
	assert_int_equal(read(ready[0], &fd, sizeof(fd)), sizeof(fd));
	pidfd = syscall(SYS_pidfd_open, child, 0);
	here = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	assert_true(here >= 0);
	close(ready[0]);
	close(ready[1]);
	*ret_pid = child;
	*ret_pidfd = pidfd;
	return here;
}

/* For start_process(): do nothing. */
static inline void wait_for_ever(int fd)
{
	(void)fd;
	for (;;)
		pause();
}

/* Start such a process, and wait until it faults. */
static inline int start_victim(void (*be)(int fd), pid_t *ret_pid, int *ret_pidfd)
{
	int fd = start_process(be, ret_pid, ret_pidfd);

	wait_until_faulting(fd);
	return fd;
}

#endif /* INVLOCK_TESTS_VM_DRILL_RIG_H */
