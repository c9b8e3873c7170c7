// SPDX-License-Identifier: MIT
/*
 * Thread stacks. When a thread ends, libc discards most of its stack. Later it gives the stack to
 * another thread, or unmaps it if it keeps too many stacks.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "changes.h"
#include "lib/selftest/trial.h"

/* libc does not keep a stack of this size, but unmaps it when the thread is joined */
#define STACK_BYTES	(64UL << 20)
/* how far our page is from the low end of the stack; the thread uses the high end */
#define OFFSET		(1UL << 20)

struct stack_victim {
	pthread_t thread;
	pid_t tid;
	sem_t ready, leave;
	u8 *page;		/* a page of its stack; NULL = unknown */
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

/* Another thread must call this: the first malloc() of a thread would map a heap that stays. */
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

/* Start the thread. Return: false if that failed; the trial then says why. */
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
		trial_unknown(t, "cannot create a thread: %s", strerror(err));
		return false;
	}
	while (sem_wait(&v->ready))
		;
	v->page = page_of_stack(v->thread);
	if (v->page)
		memset(v->page, 1, 1);
	return true;
}

/* Tell the thread to end, and wait until it has fully ended, in the kernel, too. */
static void let_die(struct stack_victim *v)
{
	sem_post(&v->leave);
	while (!syscall(SYS_tgkill, getpid(), v->tid, 0))
		sched_yield();
}

static void finish(struct trial *t, const struct stack_victim *v)
{
	if (page_is_present(v->page))
		trial_unknown(t, "this libc kept the memory, so nothing changed");
	else
		trial_end(t, 0);
}

/* When a thread ends and is not joined yet, libc discards its stack and keeps it mapped. */
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

/* When a thread that has ended is joined, libc unmaps its stack. */
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

const struct map_change stack_changes[] = {
	{ "thread stack (thread ends)", INVLOCK_KIND_DISCARD, exit_thread },
	{ "thread stack (thread joined)", INVLOCK_KIND_UNMAP, join_thread },
	{ NULL }
};
