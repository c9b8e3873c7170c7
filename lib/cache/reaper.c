// SPDX-License-Identifier: MIT
#include "reaper.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cache_internal.h"
#include "lib/monitor/monitor.h"

#define NR_MONITORS_NOTED	5	/* mms that may be open at once: one for each monitor */

/* Lies in memory that fork wipes: a child has no reaper, and all of this is zero there. */
struct reaper {
	/* read and written without a lock */
	u32 news;			/* futex word: incremented to wake the thread */
	bool stop;			/* the thread must end */

	/* guarded by mm_lock() */
	bool runs;
	pthread_t thread;

	pthread_mutex_t lock;		/* guards the rest, and reap_next of each cache */
	pthread_cond_t moved_on;	/* signalled when current has changed */
	struct invlock_cache *caches;
	struct invlock_cache *current;	/* the thread works on this cache, without the lock */
};

static struct reaper *reaper;	/* made with the first cache that has a reaper; mm_lock() */

static void futex(int op, u32 val, const struct timespec *timeout)
{
	syscall(SYS_futex, &reaper->news, op | FUTEX_PRIVATE_FLAG, val, timeout, NULL, 0);
}

void reaper_wake(void)
{
	/* full; pairs with the acquire in reap_loop() */
	port_fetch_add(&reaper->news, 1);
	futex(FUTEX_WAKE, 1, NULL);
}

/* The mms whose monitors were asked in this round for what they missed: many caches share one. */
struct noted {
	const struct invlock_mm *mm[NR_MONITORS_NOTED];
	unsigned int nr;
};

static void note_missed(struct noted *noted, const struct invlock_mm *mm)
{
	for (unsigned int i = 0; i < noted->nr; i++)
		if (noted->mm[i] == mm)
			return;
	if (noted->nr < NR_MONITORS_NOTED)
		noted->mm[noted->nr++] = mm;
	mm_note_missed(mm);
}

static bool is_due(struct invlock_cache *cache, u64 now)
{
	/* acquire: what the kicking thread has done is seen; pairs with cache_kick() */
	if (port_load_acquire(&cache->kicked))
		return true;
	return port_load(&cache->active) && now >= port_load(&cache->reap_at);
}

/* Locks: the reaper's, which is released meanwhile; @cache stays in the list */
static void reap_one_locked(struct invlock_cache *cache, struct noted *noted, u64 now)
{
	reaper->current = cache;
	pthread_mutex_unlock(&reaper->lock);
	port_store(&cache->kicked, false);
	port_store(&cache->reap_at, now + cache_reap_ns(cache));
	note_missed(noted, cache->mm);
	cache_kill_stale(cache);
	cache_bury(cache);
	pthread_mutex_lock(&reaper->lock);
	reaper->current = NULL;
	pthread_cond_broadcast(&reaper->moved_on);
}

/* Makes one round over all caches. Return: when the next one is due; ULLONG_MAX = never */
static u64 reap_all(void)
{
	u64 now = port_now(), next = ULLONG_MAX;
	struct noted noted = { .nr = 0 };

	pthread_mutex_lock(&reaper->lock);
	for (struct invlock_cache *c = reaper->caches; c && !port_load(&reaper->stop);
	     c = c->reap_next) {
		if (is_due(c, now))
			reap_one_locked(c, &noted, now);
		if (port_load(&c->active) && port_load(&c->reap_at) < next)
			next = port_load(&c->reap_at);
	}
	pthread_mutex_unlock(&reaper->lock);
	return next;
}

static void *reap_loop(void *arg)
{
	int old_state;

	(void)arg;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	for (;;) {
		u32 seen = port_load_acquire(&reaper->news);
		struct timespec wait = {};
		u64 next, now;

		if (port_load(&reaper->stop))
			return NULL;
		next = reap_all();
		now = port_now();
		if (next > now && next != ULLONG_MAX)
			wait = (struct timespec){ .tv_sec = (next - now) / 1000000000,
						  .tv_nsec = (next - now) % 1000000000 };
		/* sleep until there is news or it is time; return at once if news came meanwhile */
		futex(FUTEX_WAIT, seen, next == ULLONG_MAX ? NULL : &wait);
	}
}

static bool exits;	/* the process exits, so no thread is started any more; mm_lock() */

/*
 * What dereg() needs may be gone soon: from now on it is not called. This does not wait for the
 * thread, which may be in a dereg() that waits for us, nor for an open, which may take long.
 */
static void stop_at_exit(void)
{
	port_store(&reaper->stop, true);
	reaper_wake();
	if (!mm_try_lock())
		return;
	exits = true;
	if (reaper->runs)
		pthread_detach(reaper->thread);
	reaper->runs = false;
	mm_unlock();
}

/* Locks: mm_lock() */
static int start_thread(void)
{
	static bool stops_at_exit;
	sigset_t all, old;
	int err;

	if (!stops_at_exit)
		stops_at_exit = !atexit(stop_at_exit);
	port_store(&reaper->stop, false);
	/* the thread takes none of the program's signals */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&reaper->thread, NULL, reap_loop, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return -err;
	pthread_setname_np(reaper->thread, "invlock-reaper");
	reaper->runs = true;
	return 0;
}

/* Locks: mm_lock() */
static int add_locked(struct invlock_cache *cache)
{
	int err;

	if (!reaper)
		reaper = map_wiped_on_fork(sizeof(*reaper));
	if (!reaper)
		return -ENOMEM;
	if (!reaper->runs && !exits) {
		err = start_thread();
		if (err)
			return err;
	}
	pthread_mutex_lock(&reaper->lock);
	cache->reap_next = reaper->caches;
	reaper->caches = cache;
	pthread_mutex_unlock(&reaper->lock);
	return 0;
}

int reaper_add(struct invlock_cache *cache)
{
	int err;

	mm_lock();
	err = add_locked(cache);
	mm_unlock();
	return err;
}

/*
 * Waits until the thread has finished its work on the cache, without mm_lock(), which dereg() may
 * need.
 */
static void unlink_cache(struct invlock_cache *cache)
{
	struct invlock_cache **link;

	pthread_mutex_lock(&reaper->lock);
	while (reaper->current == cache)
		pthread_cond_wait(&reaper->moved_on, &reaper->lock);
	for (link = &reaper->caches; *link != cache; )
		link = &(*link)->reap_next;
	*link = cache->reap_next;
	pthread_mutex_unlock(&reaper->lock);
}

void reaper_remove(struct invlock_cache *cache)
{
	unlink_cache(cache);
	mm_lock();
	/* Without a cache the thread calls no function of the program, so it ends at once. */
	if (reaper->runs && !reaper->caches) {
		port_store(&reaper->stop, true);
		reaper_wake();
		pthread_join(reaper->thread, NULL);
		reaper->runs = false;
	}
	mm_unlock();
}
