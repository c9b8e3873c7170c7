// SPDX-License-Identifier: MIT
/*
 * Thread stacks: libc discards most of one when its thread ends, and later hands it to
 * another thread, or unmaps it when it keeps too many.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/selftest/trial.h"

/* more than libc keeps, so that it is gone for good when the thread is joined */
#define STACK_BYTES	(64UL << 20)
/* the thread's own, guard page included, is at the other end */
#define OFFSET		(1UL << 20)

struct stack_victim {
	pthread_t thread;
	pid_t tid;
	sem_t ready, leave;
	u8 *page;		/* of its stack; NULL = could not be found */
};

static void *live_and_die(void *arg)
{
	struct stack_victim *v = arg;

	v->tid = gettid();
	sem_post(&v->ready);
	while (sem_wait(&v->leave))
		;
	return NULL;
}

/* asked by us, not by the thread itself: its first malloc() would map a heap for good */
static u8 *page_of_stack(pthread_t thread)
{
	pthread_attr_t attr;
	void *low = NULL;
	size_t len;

	if (pthread_getattr_np(thread, &attr))
		return NULL;
	pthread_attr_getstack(&attr, &low, &len);
	pthread_attr_destroy(&attr);
	return low ? (u8 *)(((unsigned long)low + OFFSET) & ~0xffffUL) : NULL;
}

/* Return: it lives; else the trial says why not */
static bool start(struct trial *t, struct stack_victim *v)
{
	pthread_attr_t attr;
	int err;

	*v = (struct stack_victim){};
	sem_init(&v->ready, 0, 0);
	sem_init(&v->leave, 0, 0);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	err = pthread_create(&v->thread, &attr, live_and_die, v);
	pthread_attr_destroy(&attr);
	if (err) {
		trial_unknown(t, "no thread: %s", strerror(err));
		return false;
	}
	while (sem_wait(&v->ready))
		;
	v->page = page_of_stack(v->thread);
	if (v->page)
		memset(v->page, 1, 1);
	return true;
}

/* until nothing of it runs any more, in the kernel neither */
static void let_die(struct stack_victim *v)
{
	sem_post(&v->leave);
	while (!syscall(SYS_tgkill, getpid(), v->tid, 0))
		sched_yield();
}

static void finish(struct trial *t, const struct stack_victim *v)
{
	if (page_is_present(v->page))
		trial_unknown(t, "this libc kept the memory");
	else
		trial_end(t, 0);
}

/* the thread ends, and is not joined yet: its stack stays mapped, and is discarded */
static void exit_thread(struct trial *t)
{
	struct stack_victim v;
	bool begun;

	if (!start(t, &v))
		return;
	begun = v.page && trial_begin(t, v.page, t->page);
	let_die(&v);
	if (begun)
		finish(t, &v);
	pthread_join(v.thread, NULL);
}

/* nobody runs on the stack any more; join gives it back, and libc unmaps it */
static void join_thread(struct trial *t)
{
	struct stack_victim v;
	bool begun;

	if (!start(t, &v))
		return;
	let_die(&v);
	if (v.page)
		memset(v.page, 1, 1);
	begun = v.page && trial_begin(t, v.page, t->page);
	pthread_join(v.thread, NULL);
	if (begun)
		finish(t, &v);
}

const struct change stack_changes[] = {
	{ "thread stack (thread ends)", INVLOCK_KIND_DISCARD, exit_thread },
	{ "thread stack (thread joined)", INVLOCK_KIND_UNMAP, join_thread },
	{ NULL }
};
