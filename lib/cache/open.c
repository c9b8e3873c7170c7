// SPDX-License-Identifier: MIT
/* The life of a cache: open, drop, statistics, close. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cache_internal.h"
#include "lib/monitor/monitor.h"
#include "lib/options.h"
#include "thread.h"

#define DEFAULT_MAX_ENTRIES	131072
#define MAX_ENTRIES		(1u << 24)
#define MAX_GRANULE		(1ULL << 40)
#define DEFAULT_REAP_MS		50
#define REAPER_FLAGS		(INVLOCK_CACHE_REAPER | INVLOCK_CACHE_NO_REAPER)
#define FIRST_INDEX_BITS	9
#define OPTIONS_MIN		offsetof(struct invlock_cache_options, reg_read)

static bool taken[THREAD_COUNTERS];	/* counter -1 - n belongs to a cache; mm_lock() */

/* Most threads have not used the counter: storing to it would allocate its page. */
static void clear_counters(long counter)
{
	for (struct pin_thread *t = port_load_acquire(&thread_registry->threads); t; t = t->next)
		if (port_load(thread_counter(t, counter)))
			port_store(thread_counter(t, counter), 0);
}

/* Locks: mm_lock() */
static int take_counter_locked(struct invlock_cache *cache, struct invlock_why *why)
{
	int err = thread_prepare(), nr = 0;

	if (err)
		return explain(why, err, "out of memory");
	while (nr < THREAD_COUNTERS && taken[nr])
		nr++;
	if (nr == THREAD_COUNTERS)
		return explain(why, -EMFILE, "%d caches are open in this process, the most there "
			       "can be; close one or share one", THREAD_COUNTERS);
	taken[nr] = true;
	cache->counter = -1 - nr;
	clear_counters(cache->counter);
	return 0;
}

static int take_counter(struct invlock_cache *cache, struct invlock_why *why)
{
	int err;

	mm_lock();
	err = take_counter_locked(cache, why);
	mm_unlock();
	return err;
}

static void give_counter(const struct invlock_cache *cache)
{
	mm_lock();
	taken[-1 - cache->counter] = false;
	mm_unlock();
}

static int check_options(struct invlock_cache_options *o, const struct invlock_cache_options *given,
			 struct invlock_why *why)
{
	int err = options_in("invlock_cache_options", o, sizeof(*o), OPTIONS_MIN, given, why);

	if (err)
		return err;
	if (o->flags == REAPER_FLAGS)
		return explain(why, -EINVAL, "the options ask for a reaper and for none");
	if (o->flags & ~REAPER_FLAGS)
		return explain(why, -EINVAL, "unknown flags 0x%x in the options", o->flags);
	if (!o->ops.dereg || (!o->ops.reg && !o->reg_key))
		return explain(why, -EINVAL, "options.ops needs both reg and dereg; with reg_key "
			       "only dereg");
	if (o->max_entries > MAX_ENTRIES)
		return explain(why, -EINVAL, "max_entries is %u, the most is %u", o->max_entries,
			       MAX_ENTRIES);
	if (o->granule & (o->granule - 1) || (o->granule && o->granule < page_bytes()) ||
	    o->granule > MAX_GRANULE)
		return explain(why, -EINVAL, "granule is %zu; it must be a power of two, at least "
			       "%lu", o->granule, page_bytes());
	if (o->max_merged && o->max_merged < page_bytes())
		return explain(why, -EINVAL, "max_merged is %" PRIu64 "; it must be 0, to merge "
			       "nothing, or at least %lu", o->max_merged, page_bytes());
	if (!o->max_entries)
		o->max_entries = DEFAULT_MAX_ENTRIES;
	if (!o->granule)
		o->granule = page_bytes();
	if (!o->reap_ms)
		o->reap_ms = DEFAULT_REAP_MS;
	if (!o->need)
		o->need = INVLOCK_KINDS_DEFAULT;
	return 0;
}

/* address space for the largest case; pages are allocated on first use */
static void *reserve(size_t bytes)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

static size_t keys_bytes(const struct invlock_cache *cache)
{
	return cache->options.max_entries * sizeof(u64);
}

static int map_tables(struct invlock_cache *cache)
{
	struct index_table *t = mmap(NULL, index_table_bytes(FIRST_INDEX_BITS),
				     PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool keyed = cache->options.reg_key;
	void *regions;

	if (t == MAP_FAILED)
		return -errno;
	index_table_init(t, FIRST_INDEX_BITS);
	cache->pool_bytes = cache->options.max_entries * sizeof(struct region);
	regions = reserve(cache->pool_bytes);
	cache->keys = keyed && regions ? reserve(keys_bytes(cache)) : NULL;
	if (!regions || (keyed && !cache->keys)) {
		if (regions)
			munmap(regions, cache->pool_bytes);
		munmap(t, index_table_bytes(FIRST_INDEX_BITS));
		return -ENOMEM;
	}
	region_pool_init(&cache->pool, regions, cache->keys, cache->options.max_entries);
	index_init(&cache->index, t, &cache->pool);
	return 0;
}

static void unmap_tables(struct invlock_cache *cache)
{
	cache->index.table->retired = cache->retired;
	while (cache->index.table) {
		struct index_table *t = cache->index.table;

		cache->index.table = t->retired;
		munmap(t, index_table_bytes(t->bits));
	}
	munmap(cache->pool.regions, cache->pool_bytes);
	if (cache->keys)
		munmap(cache->keys, keys_bytes(cache));
}

int invlock_cache_open(struct invlock_mm *mm, const struct invlock_cache_options *options,
		       struct invlock_cache **ret_cache, struct invlock_why *why)
{
	struct invlock_cache_options o;
	struct invlock_cache *cache;
	int err, old_state;

	if (why)
		why->text[0] = '\0';
	if (!mm || !options || !ret_cache)
		return explain(why, -EINVAL, "mm, options and ret_cache must not be NULL");
	if (!mm_alive(mm))
		return explain(why, -EOWNERDEAD,
			       "this mm was opened before a fork; open a new one");
	err = check_options(&o, options, why);
	if (!err)
		err = mm_sees(mm->monitor, mm->seen, o.need, why);
	if (!err)
		err = mm_is_exact(mm, o.need, why);
	if (err)
		return err;
	cache = aligned_alloc(64, sizeof(*cache));
	if (!cache)
		return explain(why, -ENOMEM, "out of memory");
	*cache = (struct invlock_cache){
		.alive = mm->alive,
		.il = mm->il,
		.mm = mm,
		.options = o,
		.budget = { .rounds = o.rounds, .time_ns = o.time_ns },
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	/* a thread is not cancelled while this unwinds */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	err = take_counter(cache, why);
	if (err)
		goto free_cache;
	err = map_tables(cache);
	if (err) {
		explain(why, err, "no memory for %u entries: %s", o.max_entries, strerror(-err));
		goto give_counter;
	}
	err = cache_begin_reaping(cache, why);
	if (err)
		goto unmap;
	pthread_setcancelstate(old_state, NULL);
	mm_hold(mm);
	*ret_cache = cache;
	return 0;

unmap:
	unmap_tables(cache);
give_counter:
	give_counter(cache);
free_cache:
	pthread_setcancelstate(old_state, NULL);
	free(cache);
	return err;
}

int invlock_cache_close(struct invlock_cache *cache)
{
	struct region_pool *pool;
	int old_state;
	bool mine;

	if (!cache)
		return 0;
	/* it would be freed under the call that has called back, or wait for itself */
	if (cache_in_callback == cache)
		return -EDEADLK;
	mine = cache_alive(cache);
	if (mine && cache_is_pinned(cache))
		return -EBUSY;
	pool = &cache->pool;
	/* a thread is not cancelled half-way, nor in dereg() */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	cache_end_reaping(cache, mine);
	if (mine) {
		/*
		 * No other call may run, so this takes no lock, and regions need not be unlinked
		 * first.
		 */
		for (u32 i = 0; i < pool->nr_used; i++)
			if (pool->regions[i].state != REGION_FREE)
				cache_deregister(cache, &pool->regions[i]);
	}
	unmap_tables(cache);
	give_counter(cache);
	invlock_mm_close(cache->mm);
	free(cache);
	pthread_setcancelstate(old_state, NULL);
	return 0;
}

struct dropping {
	struct invlock_cache *cache;
	int nr;
};

/* Locks: held */
static void drop_region(struct region *r, void *arg)
{
	struct dropping *d = arg;

	cache_kill_locked(d->cache, r);
	d->nr++;
}

int invlock_cache_drop(struct invlock_cache *cache, const void *addr, size_t len)
{
	u64 start = (unsigned long)addr, end = start + len;
	struct dropping d = { .cache = cache };
	int old_state;

	if (!cache || end <= start)
		return -EINVAL;
	if (!cache_alive(cache))
		return -EOWNERDEAD;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	cache_lock(cache);
	cache_each_overlap_locked(cache, start, end, drop_region, &d);
	cache_unlock(cache);
	cache_bury(cache);
	/* another thread may have taken such an entry before, and peers still reach its memory */
	cache_wait_for_burials(cache);
	mm_release(cache->mm, start, end);
	pthread_setcancelstate(old_state, NULL);
	return d.nr;
}

static u64 count_hits(const struct invlock_cache *cache)
{
	u64 hits = 0;

	for (struct pin_thread *t = port_load_acquire(&thread_registry->threads); t; t = t->next)
		hits += port_load(thread_counter(t, cache->counter));
	return hits;
}

int invlock_cache_stats(const struct invlock_cache *cache, struct invlock_cache_stats *ret_stats)
{
	struct invlock_cache *c = (struct invlock_cache *)cache;
	struct invlock_cache_stats stats;

	if (!cache || !ret_stats)
		return -EINVAL;
	if (!cache_alive(cache))
		return -EOWNERDEAD;
	cache_lock(c);
	stats = c->stats;
	stats.entries = c->pool.nr_live;
	stats.dead = c->pool.nr_registered - c->pool.nr_live;
	stats.bytes = c->pool.bytes;
	cache_unlock(c);
	stats.hits = count_hits(cache);
	return options_out(ret_stats, sizeof(stats), &stats, sizeof(stats));
}
