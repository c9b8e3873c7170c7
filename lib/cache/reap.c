// SPDX-License-Identifier: MIT
/*
 * When the dead are looked for: the timer that a program may poll, and the reaper.
 *
 * A program may close descriptors that it does not know, and have the number for a file of its
 * own. So the reaper needs none, it sleeps on memory; and before the timer is used, it is known
 * by its interval: what was asked for, and some nanoseconds that no other timer has.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "cache_internal.h"
#include "lib/monitor/monitor.h"

#define MARK_NS		100000	/* the timer's mark is shorter */

/* Return: the descriptor; -1 when the program has closed it */
static int timer_of(struct invlock_cache *cache)
{
	int timer = port_load(&cache->timer);
	struct itimerspec t;

	if (timer < 0)
		return -1;
	if (timerfd_gettime(timer, &t)) {
		/* another error says nothing about the file */
		if (errno != EBADF && errno != EINVAL)
			return timer;
	} else if (t.it_interval.tv_sec == cache->interval.tv_sec &&
		   t.it_interval.tv_nsec == cache->interval.tv_nsec) {
		return timer;
	}
	port_store(&cache->timer, -1);
	return -1;
}

/* first: when it fires; 0 = it does not. false = try again; a timer that is gone needs nothing */
static bool set_timer(struct invlock_cache *cache, struct timespec first)
{
	struct itimerspec t = { .it_interval = cache->interval, .it_value = first };
	int timer = timer_of(cache);

	return timer < 0 || !timerfd_settime(timer, 0, &t, NULL);
}

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
		/* until there is news, or it is time; not at all if there was some meanwhile */
		futex(cache, FUTEX_WAIT, seen,
		      port_load(&cache->timer_runs) ? &cache->interval : NULL);
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
	u64 ms = cache->options.reap_ms;
	int err;

	cache->interval = (struct timespec){
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000 + 1 + port_now() % (MARK_NS - 1),
	};
	cache->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (cache->timer < 0)
		return explain(why, -errno, "no file descriptor for a timer: %s", strerror(errno));
	/* marked, and not running */
	if (timerfd_settime(cache->timer, 0, &(struct itimerspec){ .it_interval = cache->interval },
			    NULL)) {
		err = explain(why, -errno, "cannot set a timer: %s", strerror(errno));
		goto close_timer;
	}
	if (cache->options.flags & INVLOCK_CACHE_REAPER) {
		err = start_reaper(cache);
		if (err) {
			explain(why, err, "cannot start the reaper: %s", strerror(-err));
			goto close_timer;
		}
	}
	return 0;

close_timer:
	close(cache->timer);
	return err;
}

void cache_end_reaping(struct invlock_cache *cache, bool mine)
{
	int timer;

	if (mine && cache->has_reaper) {
		port_store(&cache->stop, true);
		wake_reaper(cache);
		pthread_join(cache->reaper, NULL);
	}
	timer = timer_of(cache);
	if (timer >= 0)
		close(timer);
}

void cache_set_timer_locked(struct invlock_cache *cache)
{
	bool wanted = cache->pool.nr_live || cache->pool.nr_dead;

	/* if it fails, the next change of the cache tries again */
	if (wanted == cache->timer_runs ||
	    !set_timer(cache, wanted ? cache->interval : (struct timespec){}))
		return;
	port_store(&cache->timer_runs, wanted);
	if (wanted)
		wake_reaper(cache);
}

void cache_kick(struct invlock_cache *cache)
{
	set_timer(cache, (struct timespec){ .tv_nsec = 1 });
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
	timer = timer_of(cache);
	/* nothing to read is as good: the descriptor is unreadable afterwards */
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
	timer = timer_of((struct invlock_cache *)cache);
	return timer < 0 ? -EBADF : timer;
}
