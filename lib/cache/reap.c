// SPDX-License-Identifier: MIT
/*
 * When dead regions are looked for: by the reaper, or when a timer tells the program's own loop;
 * and by each get that registers, so that neither of the two has to keep up.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cache_internal.h"
#include "lib/monitor/monitor.h"
#include "reaper.h"

#define SWEEP		8	/* regions that a miss validates */
#define DEAD_SHARE	8	/* a miss reaps if more than one in so many is dead */

static bool has_reaper(const struct invlock_cache *cache)
{
	return !(cache->options.flags & INVLOCK_CACHE_NO_REAPER);
}

int cache_begin_reaping(struct invlock_cache *cache, struct invlock_why *why)
{
	int err;

	cache->timer.fd = -1;
	if (has_reaper(cache)) {
		err = reaper_add(cache);
		if (err)
			explain(why, err, "cannot start the reaper, a thread: %s; a cache with "
				"INVLOCK_CACHE_NO_REAPER has none", strerror(-err));
		return err;
	}
	err = own_timer_create(&cache->timer, cache->options.reap_ms);
	return err ? explain(why, err, "cannot make a timer: %s", strerror(-err)) : 0;
}

void cache_end_reaping(struct invlock_cache *cache, bool mine)
{
	if (mine && has_reaper(cache))
		reaper_remove(cache);
	own_timer_close(&cache->timer);
}

u64 cache_reap_ns(const struct invlock_cache *cache)
{
	return cache->options.reap_ms * 1000000ULL;
}

static void set_active(struct invlock_cache *cache, bool active)
{
	port_store(&cache->reap_at, port_now() + cache_reap_ns(cache));
	port_store(&cache->active, active);
	if (active)
		reaper_wake();
}

void cache_set_active_locked(struct invlock_cache *cache)
{
	bool active = cache->pool.nr_live || cache->pool.nr_dead;

	if (active == port_load(&cache->active))
		return;
	if (has_reaper(cache))
		set_active(cache, active);
	/* if the timer cannot be set, the next change of the cache tries again */
	else if (own_timer_set(&cache->timer, active ? cache->timer.interval :
			       (struct timespec){}))
		port_store(&cache->active, active);
	/* the program has closed its descriptor */
	if (!has_reaper(cache) && port_load(&cache->timer.fd) < 0)
		cache_has_trouble(cache, TROUBLE_TIMER);
}

void cache_kick(struct invlock_cache *cache)
{
	if (!has_reaper(cache)) {
		own_timer_set(&cache->timer, (struct timespec){ .tv_nsec = 1 });
		return;
	}
	/* release: pairs with the acquire in is_due() */
	port_store_release(&cache->kicked, true);
	reaper_wake();
}

/*
 * Is it worth a barrier and a scan? Yes if many regions have died since the last scan: those that
 * were pinned at that time may stay pinned for long. Locks: held
 */
static bool many_dead(const struct invlock_cache *cache)
{
	const struct region_pool *pool = &cache->pool;
	u32 nr = pool->nr_dead > cache->nr_left ? pool->nr_dead - cache->nr_left : 0;

	return nr && nr >= pool->nr_registered / DEAD_SHARE;
}

void cache_tidy(struct invlock_cache *cache)
{
	bool many;

	cache_lock(cache);
	cache->sweep_at = cache_kill_some_locked(cache, cache->sweep_at, SWEEP);
	many = many_dead(cache);
	cache_unlock(cache);
	if (many)
		cache_bury(cache);
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
	/* If there is nothing to read, the descriptor is not readable, as it should be. */
	if (timer >= 0 && read(timer, &expirations, sizeof(expirations)) < 0)
		expirations = 0;
	mm_note_missed(cache->mm);
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
