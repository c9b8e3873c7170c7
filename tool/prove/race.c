// SPDX-License-Identifier: MIT
/*
 * Two threads and one change: an I/O thread hands an area that it owns to a storm thread, which
 * changes it and hands it back.
 *
 *	I/O thread (owner)		storm thread
 *	post the change
 *					take it; owner now
 *	look its memory up, use		change the map
 *	  nothing of it
 *					done
 *	owner again: I/O
 *
 * What the I/O thread looks up meanwhile registers memory while it changes: it may be kept only
 * if the I/O thread may use it afterwards. When the change is the munmap of the whole area, the
 * I/O thread does not wait: it maps the area anew as soon as the kernel lets it, which is while
 * the other is still inside munmap(), and owns it from then on.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "prove.h"

#define DECOY_BYTES	((size_t)64 << 10)
#define IDLE_NS		50000
#define YIELD_EVERY	32

enum { JOB_NONE, JOB_POSTED, JOB_RUNNING };

/* of what is being changed, in one cache and then in the other */
static void look_up(struct worker *w, const struct part *part)
{
	const struct prove *p = w->prove;
	enum column column = w->lookups % 2 ? COLUMN_INVLOCK : COLUMN_NAIVE;
	unsigned int nr = part->first + next_random(&w->random) % part->nr;
	const struct area *a = part->area;
	struct invlock_pin pin;

	/* the lock keeps this out of what is counted as the I/O's hits */
	pthread_mutex_lock(&w->engine->lock);
	if (!invlock_cache_get(p->device->cache(w->engine, column),
			       port_load(&a->buffers[nr].addr), a->len, 0, &pin))
		invlock_cache_put(&pin);
	pthread_mutex_unlock(&w->engine->lock);
	port_store(&w->lookups, w->lookups + 1);
}

/* true: the area is mapped anew, and ours */
static bool claim(struct worker *w, const struct area *a)
{
	/* asked first: once it is over, nothing of ours is mapped there any more */
	bool over = port_load_acquire(&w->job.state) == JOB_NONE;
	int err = area_map(a, a->base, a->span, MAP_FIXED_NOREPLACE);

	if (!err && port_load(&w->job.state) == JOB_RUNNING)
		port_store(&w->handovers, w->handovers + 1);
	if (err && (err != -EEXIST || over))
		prove_fail(w->prove, "cannot map %zu bytes at the address that was unmapped: %s",
			   a->span, strerror(-err));
	return !err;
}

void race_change(struct worker *w, struct area *a)
{
	struct job *job = &w->job;

	/* the munmap of the last one may still be running */
	if (port_load_acquire(&job->state) != JOB_NONE ||
	    !storm_choose(w, a, true, &job->change))
		return;
	/* the storm thread owns it from here; pairs with run_job() */
	port_store_release(&job->state, JOB_POSTED);
	for (unsigned int i = 1;; i++) {
		if (prove_stopped(w->prove) &&
		    port_cmpxchg(&job->state, JOB_POSTED, JOB_NONE) == JOB_POSTED)
			return;	/* nobody takes it any more */
		if (i % YIELD_EVERY == 0 || port_load(&job->state) == JOB_POSTED)
			sched_yield();
		if (!job->change.storm->taken) {
			if (port_load_acquire(&job->state) == JOB_NONE)
				return;
			look_up(w, &job->change.part);
		} else if (claim(w, a) || port_load(&w->prove->failed)) {
			return;
		}
	}
}

/* something that an I/O thread has posted */
static bool run_job(struct worker *w)
{
	struct prove *p = w->prove;

	for (unsigned int i = 0; i < p->nr_io; i++) {
		struct job *job = &p->workers[(w->nr + i) % p->nr_io].job;

		if (port_load(&job->state) != JOB_POSTED ||
		    port_cmpxchg(&job->state, JOB_POSTED, JOB_RUNNING) != JOB_POSTED)
			continue;
		storm_make(w, &job->change);
		port_store_release(&job->state, JOB_NONE);
		return true;
	}
	return false;
}

/* memory that nobody uses comes and goes beside the areas: their words move all the time */
static void decoy(struct worker *w)
{
	const struct prove *p = w->prove;
	const struct area *a = &p->areas[next_random(&w->random) % p->nr_areas];
	u8 *addr = a->base + (1ULL << INVLOCK_STRIPE_SHIFT) - DECOY_BYTES;
	void *mem;

	if (!a->side || addr < a->base + a->span)
		return;
	mem = mmap(addr, DECOY_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (mem == MAP_FAILED)
		return;
	report_start(p, mem, DECOY_BYTES);
	munmap(mem, DECOY_BYTES);
	report_end(p, mem, DECOY_BYTES);
}

void *storm_thread(void *worker)
{
	struct worker *w = worker;
	const struct timespec idle = { .tv_nsec = IDLE_NS };
	struct change change;
	struct area *a;

	while (!prove_stopped(w->prove)) {
		if (run_job(w))
			continue;
		a = area_take(w, USES_PER_ENGINE * w->prove->nr_engines);
		if (a) {
			if (storm_choose(w, a, false, &change))
				storm_make(w, &change);
			area_release(a);
		}
		decoy(w);
		nanosleep(&idle, NULL);
	}
	return NULL;
}
