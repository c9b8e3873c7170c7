// SPDX-License-Identifier: MIT
/*
 * When the dead are looked for: the timer that a program may poll, and the reaper.
 *
 * The reaper sleeps on memory, and needs no descriptor that a program could close.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cache_internal.h"
#include "lib/monitor/monitor.h"

static void futex(struct invlock_cache *cache, int op, u32 val, const struct timespec *timeout)
{
	syscall(SYS_futex, &cache->news, op | FUTEX_PRIVATE_FLAG, val, timeout, NULL, 0);
}

static void wake_reaper(struct invlock_cache *cache)
{
	if (!cache->has_reaper)
		return;
	/* full; pairs with the acquire in reap_loop() */
	port_fetch_add(&cache->news, 1);
	futex(cache, FUTEX_WAKE, 1, NULL);
}

static void *reap_loop(void *arg)
{
	struct invlock_cache *cache = arg;

	for (;;) {
		u32 seen = port_load_acquire(&cache->news);

		if (port_load(&cache->stop))
			return NULL;
		invlock_cache_reap(cache);
		/* until there is news, or it is time; not at all if news came meanwhile */
		futex(cache, FUTEX_WAIT, seen,
		      port_load(&cache->timer_runs) ? &cache->timer.interval : NULL);
	}
}

static int start_reaper(struct invlock_cache *cache)
{
	sigset_t all, old;
	int err;

	cache->has_reaper = true;
	/* signals are the program's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&cache->reaper, NULL, reap_loop, cache);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return -err;
	pthread_setname_np(cache->reaper, "invlock-reaper");
	return 0;
}

int cache_begin_reaping(struct invlock_cache *cache, struct invlock_why *why)
{
	int err = own_timer_create(&cache->timer, cache->options.reap_ms);

	if (err)
		return explain(why, err, "cannot make a timer: %s", strerror(-err));
	if (cache->options.flags & INVLOCK_CACHE_REAPER) {
		err = start_reaper(cache);
		if (err) {
			own_timer_close(&cache->timer);
			return explain(why, err, "cannot start the reaper: %s", strerror(-err));
		}
	}
	return 0;
}

void cache_end_reaping(struct invlock_cache *cache, bool mine)
{
	if (mine && cache->has_reaper) {
		port_store(&cache->stop, true);
		wake_reaper(cache);
		pthread_join(cache->reaper, NULL);
	}
	own_timer_close(&cache->timer);
}

void cache_set_timer_locked(struct invlock_cache *cache)
{
	bool wanted = cache->pool.nr_live || cache->pool.nr_dead;

	/* if it fails, the next change of the cache tries again */
	if (wanted == cache->timer_runs ||
	    !own_timer_set(&cache->timer, wanted ? cache->timer.interval : (struct timespec){}))
		return;
	port_store(&cache->timer_runs, wanted);
	if (wanted)
		wake_reaper(cache);
}

void cache_kick(struct invlock_cache *cache)
{
	own_timer_set(&cache->timer, (struct timespec){ .tv_nsec = 1 });
	wake_reaper(cache);
}

int invlock_cache_reap(struct invlock_cache *cache)
{
	int old_state, nr, timer;
	u64 expirations;

	if (!cache)
		return -EINVAL;
	if (!cache_alive(cache))
		return -EOWNERDEAD;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	timer = own_timer_fd(&cache->timer);
	/* if there is nothing to read, the descriptor is as unreadable as we want it */
	if (timer >= 0 && read(timer, &expirations, sizeof(expirations)) < 0)
		expirations = 0;
	cache_kill_stale(cache);
	nr = cache_bury(cache);
	pthread_setcancelstate(old_state, NULL);
	return nr;
}

int invlock_cache_fd(const struct invlock_cache *cache)
{
	int timer;

	if (!cache)
		return -EINVAL;
	if (!cache_alive(cache))
		return -EOWNERDEAD;
	timer = own_timer_fd((struct own_timer *)&cache->timer);
	return timer < 0 ? -EBADF : timer;
}
