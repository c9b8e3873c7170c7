// SPDX-License-Identifier: MIT
/* Limits, eviction, and what happens to dead regions. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache_internal.h"
#include "lib/log.h"
#include "lib/probes.h"
#include "thread.h"

#define BATCH		32	/* regions that one scan of the pins decides about */
#define LOOK_BATCH	256	/* regions that are validated under the lock at once */

/*
 * After this, other threads see what we have unlinked, or we see their pins of it. Return: false if
 * the barrier could not be issued.
 */
static bool barrier(struct invlock_cache *cache)
{
	if (pins_alone(thread_registry, thread_self) || port_heavy_barrier())
		return true;
	cache_has_trouble(cache, TROUBLE_BARRIER);
	return false;
}

/*
 * Which regions of the batch are pinned? Locks: held. Return: false = this cannot be found out now
 */
static bool mark_held(struct invlock_cache *cache, struct region **batch, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		batch[i]->held = false;
	if (!barrier(cache))
		return false;
	pins_mark(thread_registry, &cache->pool);
	return true;
}

/* Finds out which of the dead regions are not in use. Locks: held */
static void sort_dead(struct invlock_cache *cache)
{
	struct region_pool *pool = &cache->pool;
	region_id *link = &pool->dead;

	for (region_id id = pool->dead; id; id = region_at(pool, id)->next)
		region_at(pool, id)->held = false;
	/* They were unlinked before, so a thread that still uses one has a pin of it by now. */
	if (!pool->dead || !barrier(cache))
		return;
	pins_mark(thread_registry, pool);
	while (*link) {
		region_id id = *link;
		struct region *r = region_at(pool, id);

		if (r->held) {
			link = &r->next;
		} else {
			*link = r->next;
			r->next = pool->unused;
			pool->unused = id;
		}
	}
}

/* Takes up to BATCH regions that are dead and not in use. Locks: held */
static u32 take_unused(struct invlock_cache *cache, struct region **batch)
{
	struct region_pool *pool = &cache->pool;
	u32 nr = 0;

	if (!pool->unused)
		sort_dead(cache);
	while (pool->unused && nr < BATCH) {
		batch[nr] = region_at(pool, pool->unused);
		pool->unused = batch[nr++]->next;
	}
	return nr;
}

_Thread_local const struct invlock_cache *cache_in_callback
	__attribute__((tls_model("initial-exec")));

void callback_did_not_return(const char *name)
{
	dprintf(STDERR_FILENO, "invlock: %s() did not return: it may not throw an exception, nor "
		"end its thread\n", name);
	abort();
}

void cache_deregister(struct invlock_cache *cache, struct region *r)
{
	u64 began = PROBE_IS_TRACED(dereg) ? port_now() : 0;

	CALLBACK(cache, "dereg");
	cache->options.ops.dereg(cache->options.ctx, (void *)(unsigned long)r->start,
				 r->end - r->start, r->handle);
	callback.name = NULL;
	if (PROBE_IS_TRACED(dereg))
		PROBE(dereg, cache, r->start, r->end - r->start, began ? port_now() - began : 0);
	mm_unwatch(cache->mm, r->start, r->end);
}

/* Free the replaced tables that no thread walks. Locks: held */
static void free_tables(struct invlock_cache *cache)
{
	struct index_table **link = &cache->retired;

	while (*link) {
		struct index_table *t = *link;

		/* An idle thread may stay in a table for long: look before spending a barrier. */
		if (pins_walk_table(thread_registry, t) || !barrier(cache) ||
		    pins_walk_table(thread_registry, t)) {
			link = &t->retired;
			continue;
		}
		*link = t->retired;
		munmap(t, index_table_bytes(t->bits));
	}
}

/* Locks: held */
static void begin_burial(struct invlock_cache *cache, struct burial *b)
{
	b->nr = ++cache->nr_burials;
	b->next = cache->burials;
	cache->burials = b;
}

/* Locks: held */
static void end_burial(struct invlock_cache *cache, struct burial *b)
{
	struct burial **link = &cache->burials;

	while (*link != b)
		link = &(*link)->next;
	*link = b->next;
	port_store(&cache->nr_over, cache->nr_over + 1);
}

int cache_bury(struct invlock_cache *cache)
{
	struct region *batch[BATCH];
	struct burial burial;
	int total = 0;
	u32 nr;

	do {
		cache_lock(cache);
		nr = take_unused(cache, batch);
		if (nr)
			begin_burial(cache, &burial);
		cache_unlock(cache);

		/* no other thread knows these regions now: call the user without the lock */
		for (u32 i = 0; i < nr; i++)
			cache_deregister(cache, batch[i]);

		cache_lock(cache);
		for (u32 i = 0; i < nr; i++)
			region_pool_give(&cache->pool, batch[i]);
		if (nr)
			end_burial(cache, &burial);
		cache->stats.dereg_calls += nr;
		free_tables(cache);
		cache->nr_left = cache->pool.nr_dead;
		cache_set_active_locked(cache);
		cache_unlock(cache);
		total += nr;
	} while (nr == BATCH);
	cache_tell(cache);
	return total;
}

/* Is one of the first nr burials still under way? Locks: none */
static bool is_burying(struct invlock_cache *cache, u64 nr)
{
	bool found = false;

	cache_lock(cache);
	for (const struct burial *b = cache->burials; b; b = b->next)
		found |= b->nr <= nr;
	cache_unlock(cache);
	return found;
}

/* Locks: none. Return: false = not in a callback, which they may be waiting for; or time is up */
static bool wait_for_burials(struct invlock_cache *cache, u64 nr, u64 time_ns)
{
	u64 begun = port_now();
	u32 waits = 0;

	if (cache_in_callback)
		return false;
	while (is_burying(cache, nr)) {
		if (port_now() - begun >= time_ns)
			return false;
		port_wait(waits++, false);
	}
	return true;
}

void cache_wait_for_burials(struct invlock_cache *cache)
{
	u64 nr;

	cache_lock(cache);
	nr = cache->nr_burials;
	cache_unlock(cache);
	wait_for_burials(cache, nr, ~0ULL);
}

bool cache_others_made_room(struct invlock_cache *cache, u64 over)
{
	bool changed, busy;
	u64 nr;

	cache_lock(cache);
	changed = cache->nr_over != over;
	busy = cache->burials;
	nr = cache->nr_burials;
	cache_unlock(cache);
	return changed || (busy && wait_for_burials(cache, nr, cache_time_ns(cache)));
}

void cache_tell(struct invlock_cache *cache)
{
	u32 new;

	mm_tell_if_closed(cache->mm);
	if (likely(port_load(&cache->troubles) == port_load(&cache->told)) || !log_is_set())
		return;
	cache_lock(cache);
	new = cache->troubles & ~cache->told;
	port_store(&cache->told, cache->troubles);
	cache_unlock(cache);
	if (new & TROUBLE_BARRIER)
		log_event(INVLOCK_LOG_KEPT, "dead registrations cannot be deregistered, nor idle "
			  "ones evicted, while other threads use the cache: the kernel refuses "
			  "membarrier()");
	if (new & TROUBLE_TIMER)
		log_event(INVLOCK_LOG_KEPT, "dead registrations are deregistered by gets that "
			  "register alone: the program has closed the descriptor that says when to "
			  "reap");
	if (new & TROUBLE_INDEX)
		log_event(INVLOCK_LOG_SLOWER, "no memory is left for a larger index of the cache: "
			  "new registrations serve a single pin each");
}

void cache_kill_locked(struct invlock_cache *cache, struct region *r)
{
	if (region_is_filed(r))
		index_remove(&cache->index, r);
	region_pool_kill(&cache->pool, r);
}

bool cache_is_pinned(struct invlock_cache *cache)
{
	struct region_pool *pool = &cache->pool;
	bool pinned = false;

	cache_lock(cache);
	for (u32 i = 0; i < pool->nr_used; i++)
		pool->regions[i].held = false;
	pins_mark(thread_registry, pool);
	for (u32 i = 0; i < pool->nr_used; i++)
		pinned |= pool->regions[i].held;
	cache_unlock(cache);
	return pinned;
}

/* Validates nr regions from @at on. Locks: held. Return: where to continue, 0 = at the end */
static u32 kill_stale_from(struct invlock_cache *cache, u32 at, u32 nr)
{
	struct region_pool *pool = &cache->pool;

	for (; nr; nr--, at++) {
		struct region *r = &pool->regions[at];

		if (at >= pool->nr_used)
			return 0;
		if (!region_is_filed(r) ||
		    invlock_validate(&cache->il, &r->snap, r->start, r->end) != INVLOCK_STALE)
			continue;
		PROBE(stale, cache, r->start, r->end - r->start);
		cache_kill_locked(cache, r);
		cache->stats.stale++;
	}
	return at;
}

u32 cache_kill_some_locked(struct invlock_cache *cache, u32 at, u32 nr)
{
	if (port_load(&cache->looked_at) == port_load_acquire(&cache->il.feed->sequence))
		return at;
	return kill_stale_from(cache, at, nr);
}

void cache_kill_stale(struct invlock_cache *cache)
{
	u64 sequence = port_load_acquire(&cache->il.feed->sequence);
	u32 at = 0;

	if (port_load(&cache->looked_at) == sequence)
		return;
	do {
		cache_lock(cache);
		at = kill_stale_from(cache, at, LOOK_BATCH);
		cache_unlock(cache);
	} while (at);
	port_store(&cache->looked_at, sequence);
}

/* what is still to be evicted */
struct eviction {
	u32 nr;
	u64 bytes;
};

static bool is_over(const struct eviction *e)
{
	return !e->nr && !e->bytes;
}

/* Locks: held */
static void evict_region(struct invlock_cache *cache, struct region *r, struct eviction *e)
{
	u64 bytes = r->end - r->start;

	PROBE(evict, cache, r->start, bytes);
	cache_kill_locked(cache, r);
	cache->stats.evicted++;
	e->nr -= !!e->nr;
	e->bytes -= bytes < e->bytes ? bytes : e->bytes;
}

/* Asks the clock for up to size regions, and evicts those that are not in use. Locks: held */
static void evict_batch(struct invlock_cache *cache, struct eviction *e, u32 size)
{
	struct region *batch[BATCH];
	u32 nr;

	for (nr = 0; nr < size; nr++) {
		batch[nr] = region_pool_victim(&cache->pool);
		if (!batch[nr])
			break;
		/* mark it as referenced, so that the clock names another one */
		port_store(&batch[nr]->referenced, (u8)true);
	}
	if (!mark_held(cache, batch, nr))
		return;
	for (u32 i = 0; i < nr && !is_over(e); i++)
		/* in a small cache the clock may have named a region twice */
		if (!batch[i]->held && port_load(&batch[i]->state) == REGION_LIVE)
			evict_region(cache, batch[i], e);
}

/* Evicts regions that nobody uses: at least nr, and so many bytes. Locks: none */
static void evict(struct invlock_cache *cache, u32 nr, u64 bytes)
{
	struct eviction e = { .nr = nr, .bytes = bytes };
	u32 size = nr < BATCH ? nr : BATCH;

	cache_lock(cache);
	/* All regions may be in use: try each of them once, and then stop. */
	for (u32 nr_tried = 0; !is_over(&e) && nr_tried <= cache->pool.nr_live;
	     nr_tried += size, size = BATCH)
		evict_batch(cache, &e, size);
	cache_unlock(cache);
}

bool cache_free_idle(struct invlock_cache *cache, u32 nr, u64 bytes)
{
	evict(cache, nr, bytes);
	return cache_bury(cache);
}

/* Locks: held */
static bool has_room(const struct invlock_cache *cache, u64 bytes)
{
	const struct region_pool *pool = &cache->pool;
	u64 max = cache->options.max_bytes;

	return pool->nr_registered < cache->options.max_entries &&
	       (!max || (bytes <= max && pool->bytes <= max - bytes));
}

struct region *cache_take(struct invlock_cache *cache, u64 start, u64 end)
{
	struct region *r = NULL;
	bool waited = false;
	u32 nr = 1;
	u64 over;

	for (;;) {
		cache_lock(cache);
		over = cache->nr_over;
		if (has_room(cache, end - start))
			r = region_pool_take(&cache->pool, start, end);
		cache->nr_coming += !!r;
		cache_unlock(cache);
		if (r || (cache->options.max_bytes && end - start > cache->options.max_bytes))
			return r;
		/*
		 * Free the dead regions first. Then evict more in each turn, until there is nothing
		 * left.
		 */
		if (cache_bury(cache))
			continue;
		if (cache_free_idle(cache, nr, 0)) {
			if (nr < BATCH)
				nr *= 2;
			continue;
		}
		if (waited || !cache_others_made_room(cache, over))
			return NULL;
		waited = true;
	}
}

void cache_untake(struct invlock_cache *cache, struct region *r)
{
	cache_lock(cache);
	region_pool_drop(&cache->pool, r);
	cache->nr_coming--;
	cache_set_active_locked(cache);
	cache_unlock(cache);
}

/*
 * Returns all memory but the header of a replaced table, which then reads as zeros: a thread may
 * stay in the table for long.
 */
static void give_memory_back(struct index_table *t)
{
	u64 bytes = index_table_bytes(t->bits), page = page_bytes();

	if (bytes > page)
		madvise((char *)t + page, bytes - page, MADV_DONTNEED);
}

/* Locks: held */
static bool grow_index(struct invlock_cache *cache)
{
	struct index *ix = &cache->index;
	u32 bits = index_next_bits(ix->table);
	struct index_table *t = mmap(NULL, index_table_bytes(bits), PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (t == MAP_FAILED) {
		cache_has_trouble(cache, TROUBLE_INDEX);
		return false;
	}
	t = index_replace(ix, index_table_init(t, bits));
	give_memory_back(t);
	t->retired = cache->retired;
	cache->retired = t;
	free_tables(cache);
	return true;
}

bool cache_file_locked(struct invlock_cache *cache, struct region *r)
{
	if (!index_has_room(cache->index.table) && !grow_index(cache))
		return false;
	index_insert(&cache->index, r, invlock_only_word(&cache->il, r->start, r->end));
	cache_set_active_locked(cache);
	return true;
}
