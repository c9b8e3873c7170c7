// SPDX-License-Identifier: MIT
/*
 * Two threads and one change: an I/O thread passes an area that it owns to a changing thread, which
 * changes it and passes it back.
 *
 *	I/O thread			changing thread
 *	----------			------------
 *	own the area
 *	post the change
 *					take it, own the area
 *	look up the memory		change the map
 *	  without using it
 *					done
 *	own the area, do I/O
 *
 * Meanwhile, a lookup of the I/O thread registers memory while the map changes. The cache may
 * keep such a registration only if it is still valid afterwards. If the change is the munmap()
 * of the whole area, the I/O thread does not wait for the changing thread. It maps the area anew
 * as soon as the kernel allows it, while the changing thread is still inside munmap(). From then
 * on it owns the area.
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

/* Look up one buffer of the part, in the two caches by turns. */
static void look_up(struct worker *w, const struct part *part)
{
	const struct prove *p = w->prove;
	enum column column = w->lookups % 2 ? COLUMN_INVLOCK : COLUMN_NAIVE;
	unsigned int nr = part->first + next_random(&w->random) % part->nr;
	const struct area *a = part->area;
	struct invlock_pin pin;

	/* with the lock held, this lookup does not count as a hit of an I/O */
	pthread_mutex_lock(&w->engine->lock);
	if (!invlock_cache_get(p->device->cache(w->engine, column),
			       port_load(&a->buffers[nr].addr), a->len, 0, &pin))
		invlock_cache_put(&pin);
	pthread_mutex_unlock(&w->engine->lock);
	port_store(&w->lookups, w->lookups + 1);
}

/* Return: true if this thread has mapped the area anew and owns it. */
static bool map_anew(struct worker *w, const struct area *a)
{
	/* ask before the attempt: once the munmap() is over, the attempt must succeed */
	bool over = port_load_acquire(&w->job.state) == JOB_NONE;
	int err = area_map(a, a->base, a->span, MAP_FIXED_NOREPLACE);

	if (!err && port_load(&w->job.state) == JOB_RUNNING)
		port_store(&w->handovers, w->handovers + 1);
	if (err && (err != -EEXIST || over))
		prove_fail(w->prove, "cannot map %zu bytes where they were unmapped: %s", a->span,
			   strerror(-err));
	return !err;
}

void race_change(struct worker *w, struct area *a)
{
	struct job *job = &w->job;

	/* the munmap() of the last job may still be running */
	if (port_load_acquire(&job->state) != JOB_NONE ||
	    !change_choose(w, a, true, &job->planned))
		return;
	/* passes the area to the changing thread; pairs with the cmpxchg in run_job() */
	port_store_release(&job->state, JOB_POSTED);
	for (unsigned int i = 1;; i++) {
		if (prove_stopped(w->prove) &&
		    port_cmpxchg(&job->state, JOB_POSTED, JOB_NONE) == JOB_POSTED)
			return;	/* no thread will take the job any more */
		if (i % YIELD_EVERY == 0 || port_load(&job->state) == JOB_POSTED)
			sched_yield();
		if (!job->planned.change->taken) {
			if (port_load_acquire(&job->state) == JOB_NONE)
				return;
			look_up(w, &job->planned.part);
		} else if (map_anew(w, a) || port_load(&w->prove->failed)) {
			return;
		}
	}
}

/* Make a change that an I/O thread has posted. Return: false if there is none. */
static bool run_job(struct worker *w)
{
	struct prove *p = w->prove;

	for (unsigned int i = 0; i < p->nr_io; i++) {
		struct job *job = &p->workers[(w->nr + i) % p->nr_io].job;

		if (port_load(&job->state) != JOB_POSTED ||
		    port_cmpxchg(&job->state, JOB_POSTED, JOB_RUNNING) != JOB_POSTED)
			continue;
		change_make(w, &job->planned);
		port_store_release(&job->state, JOB_NONE);
		return true;
	}
	return false;
}

/* Map and unmap unused memory beside the areas, so that the areas' words change all the time. */
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
	if (mem != MAP_FAILED)
		munmap(mem, DECOY_BYTES);
}

void *change_thread(void *worker)
{
	struct worker *w = worker;
	const struct timespec idle = { .tv_nsec = IDLE_NS };
	struct planned_change change;
	struct area *a;

	while (!prove_stopped(w->prove)) {
		if (run_job(w))
			continue;
		a = area_take(w, USES_PER_ENGINE * w->prove->nr_engines);
		if (a) {
			if (change_choose(w, a, false, &change))
				change_make(w, &change);
			area_release(a);
		}
		decoy(w);
		nanosleep(&idle, NULL);
	}
	return NULL;
}
