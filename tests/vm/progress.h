/* SPDX-License-Identifier: MIT */
/*
 * Faults while storms of invalidations run, on the mirror and on the mirror that uses
 * mmu_interval_notifier. test_progress.c and bench/kernel/progress.c share this.
 *
 * A reader faults one page again and again; before each fault it discards the page. Meanwhile
 * other threads make invalidations. drill.ko can hold each of them for a while, so that several
 * are running nearly all the time.
 */
#ifndef INVLOCK_TESTS_VM_PROGRESS_H
#define INVLOCK_TESTS_VM_PROGRESS_H

#include <pthread.h>

#include "core/port.h"
#include "core/stripe.h"
#include "drill_device.h"

#define STORM_THREADS	3
#define HUGE_LEN	(512 * MIB)

enum contender {
	INVLOCK,	/* /dev/invlock_mirror */
	INTERVAL,	/* /dev/invlock_interval, which watches the reader's page */
	INTERVAL_ALL,	/* /dev/invlock_interval, which watches the whole address space */
	ANY,		/* /dev/invlock_any, which watches the reader's page */
	NR_CONTENDERS
};

enum storm {
	STORM_DISJOINT,	/* discards pages in other stripes than the reader's */
	STORM_NEAR,	/* discards another page in the reader's stripe */
	STORM_SAME,	/* discards the reader's page */
	STORM_HUGE,	/* unmaps ranges that are too wide for stripes */
	NR_STORMS
};

struct progress {
	/* set by the caller */
	enum contender contender;
	enum storm storm;
	unsigned int faults;		/* how many faults to try */
	unsigned int max_ms;		/* the longest time for faults and storm */
	unsigned int hold_us;		/* how long drill.ko holds each invalidation of the storm */
	uint32_t rounds;		/* the budget of a fault */
	uint64_t time_ns;		/* the same */

	/* set by progress_run() */
	unsigned int tried, busy, wrong;
	uint64_t invalidations;
	struct invlock_mirror_stats stats;

	/* private */
	int fd;
	char *page;
	char *storm_pages[STORM_THREADS];
	uint64_t end_ms;		/* atomic */
	bool stop;
};

static const char *const contender_names[] = {
	"invlock", "interval", "interval, whole mm", "invlock, any lock"
};

/* Return: a page that shares neither its stripe nor its word with the @nr_taken pages so far. */
static inline char *progress_page(const struct progress *p, unsigned int nr_taken)
{
	const uint32_t mask = 255;	/* the default number of words, less 1 */
	char *page;

	for (;;) {
		bool taken = false;
		uint32_t word;

		page = map_aligned(2 * MIB);
		word = invlock_stripe_word((unsigned long)page >> INVLOCK_STRIPE_SHIFT, mask);
		for (unsigned int i = 0; i < nr_taken; i++)
			taken |= word == invlock_stripe_word((unsigned long)(i ?
					p->storm_pages[i - 1] : p->page) >> INVLOCK_STRIPE_SHIFT,
					mask);
		if (!taken)
			return page;
	}
}

static inline int progress_open(const struct progress *p)
{
	int fd = open(p->contender == INVLOCK ? "/dev/invlock_mirror" :
		      p->contender == ANY ? "/dev/invlock_any" : "/dev/invlock_interval",
		      O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	if (p->contender == INTERVAL || p->contender == ANY)
		assert_int_equal(mirror_range(fd, p->page, PAGE), 0);
	return fd;
}

static inline void invalidate_once(struct progress *p, char *page)
{
	if (p->storm != STORM_HUGE) {
		madvise(page, PAGE, MADV_DONTNEED);
		return;
	}
	page = mmap(NULL, HUGE_LEN, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (page != MAP_FAILED)
		munmap(page, HUGE_LEN);
}

static inline uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

struct progress_thread {
	pthread_t thread;
	struct progress *p;
	char *page;
};

static inline void *storm_until_stopped(void *arg)
{
	struct progress_thread *t = arg;

	while (!port_load(&t->p->stop) && now_ms() < port_load(&t->p->end_ms)) {
		invalidate_once(t->p, t->page);
		__atomic_fetch_add(&t->p->invalidations, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static inline void fault_until_done(struct progress *p)
{
	char byte;
	struct invlock_mirror_access access = {
		.op = INVLOCK_MIRROR_READ,
		.addr = (unsigned long)p->page,
		.len = 1,
		.buffer = (unsigned long)&byte,
		.rounds = p->rounds,
		.time_ns = p->time_ns,
	};

	while (p->tried < p->faults && now_ms() < p->end_ms) {
		int err;

		p->page[0] = 1;
		madvise(p->page, PAGE, MADV_DONTNEED);
		p->tried++;
		err = mirror_do(p->fd, &access);
		p->busy += err == -EBUSY;
		p->wrong += err && err != -EBUSY;
	}
}

/* Tell drill.ko to hold the invalidations of the storm, and as few others as possible. */
static inline void hold_storm(const struct progress *p, int drill)
{
	char *first = p->storm_pages[0], *last = first;

	if (p->storm == STORM_SAME) {
		first = last = p->page;
	} else if (p->storm == STORM_HUGE) {
		/* the kernel chooses where these are mapped: anywhere but at the bottom */
		drill_hold(drill, (void *)0x10000000000UL, 0x7f0000000000UL - 0x10000000000UL,
			   p->hold_us);
		return;
	}
	for (unsigned int i = 0; i < STORM_THREADS; i++) {
		first = p->storm_pages[i] < first ? p->storm_pages[i] : first;
		last = p->storm_pages[i] > last ? p->storm_pages[i] : last;
	}
	drill_hold(drill, first, last - first + PAGE, p->hold_us);
}

static inline void storm_begin(struct progress *p, int drill, struct progress_thread *threads)
{
	/* map the reader's page first: the storm's pages then lie together and apart from it */
	p->page = map_aligned(2 * MIB);
	for (unsigned int i = 0; i < STORM_THREADS; i++)
		p->storm_pages[i] = progress_page(p, i + 1);
	p->fd = progress_open(p);
	if (p->hold_us)
		hold_storm(p, drill);
	p->end_ms = UINT64_MAX;
	for (unsigned int i = 0; i < STORM_THREADS; i++) {
		threads[i] = (struct progress_thread){
			.p = p,
			.page = p->storm == STORM_SAME ? p->page :
				p->storm == STORM_NEAR ? p->page + MIB : p->storm_pages[i],
		};
		assert_int_equal(pthread_create(&threads[i].thread, NULL, storm_until_stopped,
						&threads[i]), 0);
	}
	while (port_load(&p->invalidations) < STORM_THREADS)
		sleep_ms(1);
	/* on a slow machine the time could be over before the storm has begun */
	port_store(&p->end_ms, now_ms() + p->max_ms);
}

static inline void storm_end(struct progress *p, int drill, struct progress_thread *threads)
{
	port_store(&p->stop, true);
	for (unsigned int i = 0; i < STORM_THREADS; i++)
		pthread_join(threads[i].thread, NULL);
	drill_let_go(drill);
	p->stats = mirror_stats(p->fd);
	close(p->fd);
}

/* @drill: an open file of drill.ko, which holds the storm's invalidations */
static inline void progress_run(struct progress *p, int drill)
{
	struct progress_thread threads[STORM_THREADS];

	storm_begin(p, drill, threads);
	fault_until_done(p);
	storm_end(p, drill, threads);
}

#endif /* INVLOCK_TESTS_VM_PROGRESS_H */
