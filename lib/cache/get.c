// SPDX-License-Identifier: MIT
/* The hot side of the cache: get and put. */
#include <errno.h>
#include <pthread.h>

#include "cache_internal.h"
#include "lib/monitor/look.h"
#include "lib/probes.h"
#include "thread.h"

#define MAX_ADDRESS	(1ULL << 57)	/* on every machine user addresses are below this */
/* at most one of these may be given */
#define EXCLUSIVE_FLAGS	(INVLOCK_GET_BYPASS | INVLOCK_GET_CACHED)
#define MAKE_ROOM	16	/* regions to evict when reg() or the monitor finds no room */

/* what a get asks for, once it is no fast hit */
struct wanted {
	u64 start, end;
	unsigned int flags;
	enum region_sort sort;	/* of what it would register */
	u64 key;		/* where sort is REGION_KEYED */
};

static inline void count_hit(const struct invlock_cache *cache, struct pin_thread *self)
{
	u64 *hits = thread_counter(self, cache->counter);

	/* only this thread writes the counter, so no RMW is needed */
	port_store(hits, port_load(hits) + 1);
}

/* @slot holds @r already. */
static inline void fill_pin(struct invlock_cache *cache, struct pin_slot *slot,
			    const struct region *r, struct invlock_pin *ret_pin)
{
	*ret_pin = (struct invlock_pin){
		.addr = (void *)(unsigned long)r->start,
		.len = r->end - r->start,
		.handle = r->handle,
		.cache = cache,
		.slot = slot,
		.ticket = port_load(&slot->ticket),
	};
}

static inline void hit(struct invlock_cache *cache, struct pin_thread *self, struct pin_slot *slot,
		struct region *r, struct invlock_pin *ret_pin)
{
	/* a store to a line that threads share, but only once for each turn of the clock */
	if (unlikely(!port_load(&r->referenced)))
		port_store(&r->referenced, (u8)true);
	count_hit(cache, self);
	fill_pin(cache, slot, r, ret_pin);
}

/* Empties the slot. Until then the slot names r, so r is not reused under us. */
static void kill_stale(struct invlock_cache *cache, struct pin_slot *slot, struct region *r)
{
	cache_lock(cache);
	if (region_is_filed(r)) {
		PROBE(stale, cache, r->start, r->end - r->start);
		cache_kill_locked(cache, r);
		cache->stats.stale++;
	}
	cache_unlock(cache);
	port_store_release(&slot->region, NULL);
}

/* A region that will do. It is in the slot, not validated. */
static struct region *find_any(struct invlock_cache *cache, struct pin_thread *self,
			       struct pin_slot *slot, const struct wanted *w)
{
	bool keyed = w->sort == REGION_KEYED;
	struct region *r = index_find(&cache->index, self, slot, w->start, w->end,
				      keyed ? index_keyed(w->key) : INDEX_FULL, w->key);

	if (!r && w->flags & INVLOCK_GET_READ)
		r = index_find(&cache->index, self, slot, w->start, w->end, INDEX_READ_ONLY, 0);
	return r;
}

/*
 * Finds a valid region, and kills the stale ones that it meets. Locks: none. Return: 0; -ENOENT;
 * -EAGAIN: one region would do, but it is not known yet whether it is valid
 */
static int find(struct invlock_cache *cache, struct pin_thread *self, struct pin_slot *slot,
		const struct wanted *w, struct invlock_pin *ret_pin)
{
	struct region *r;

	while ((r = find_any(cache, self, slot, w))) {
		switch (invlock_validate(&cache->il, &r->snap, r->start, r->end)) {
		case INVLOCK_VALID:
			hit(cache, self, slot, r, ret_pin);
			return 0;
		case INVLOCK_STALE:
			kill_stale(cache, slot, r);
			break;
		case INVLOCK_UNSETTLED:
			port_store_release(&slot->region, NULL);
			return -EAGAIN;
		}
	}
	return -ENOENT;
}

/* Did another thread insert a covering region meanwhile? Locks: held */
static bool find_twin(struct invlock_cache *cache, struct pin_thread *self,
		      struct pin_slot *slot, const struct wanted *w, struct invlock_pin *ret_pin)
{
	struct region *r = find_any(cache, self, slot, w);

	if (!r)
		return false;
	if (invlock_validate(&cache->il, &r->snap, r->start, r->end) != INVLOCK_VALID) {
		port_store_release(&slot->region, NULL);
		return false;
	}
	hit(cache, self, slot, r, ret_pin);
	return true;
}

/* The end of a miss: pin the registered region and put it in the index. */
static int publish(struct invlock_cache *cache, struct region *r, const struct wanted *w,
		   struct invlock_pin *ret_pin)
{
	bool bypass = w->flags & INVLOCK_GET_BYPASS;
	struct pin_thread *self = thread_get();
	/* asked after reg(), which may have called back into the cache and used the slot */
	struct pin_slot *slot = self ? thread_slot(self) : NULL;
	u32 replaced = 0;
	bool twin;

	cache_lock(cache);
	cache->nr_coming--;
	cache->stats.reg_calls++;
	if (!slot) {
		cache_kill_locked(cache, r);
		cache_unlock(cache);
		cache_bury(cache);
		return -ENOMEM;
	}
	twin = !bypass && find_twin(cache, self, slot, w, ret_pin);
	if (!twin)
		port_store_release(&slot->region, r);
	if (twin || bypass) {
		cache_kill_locked(cache, r);
	} else if (!cache_file_locked(cache, r)) {
		/* no memory for a larger index: the region serves this pin alone */
		cache_kill_locked(cache, r);
		bypass = true;
	} else {
		replaced = cache_replace_locked(cache, r, w->key);
	}
	if (!twin)
		fill_pin(cache, slot, r, ret_pin);
	if (bypass) {
		/*
		 * No other thread knows the region yet; in the index other threads would already
		 * read this.
		 */
		r->alone = true;
		cache->stats.bypassed++;
	} else if (!twin) {
		cache->stats.misses++;
	}
	cache_unlock(cache);
	if (twin || replaced)
		cache_bury(cache);
	return 0;
}

static int call_reg(struct invlock_cache *cache, struct region *r)
{
	const struct invlock_cache_options *o = &cache->options;
	void *addr = (void *)(unsigned long)r->start;
	size_t len = r->end - r->start;
	uint64_t handle = 0, began = PROBE_IS_TRACED(reg) ? port_now() : 0;
	int err;

	CALLBACK(cache, "reg");
	switch (port_load(&r->sort)) {
	case REGION_READ_ONLY:
		err = o->reg_read(o->ctx, addr, len, &handle);
		break;
	case REGION_KEYED:
		err = o->reg_key(o->ctx, addr, len,
				 port_load(region_key(cache->keys, cache->pool.regions, r)),
				 &handle);
		break;
	default:
		err = o->ops.reg(o->ctx, addr, len, &handle);
	}
	callback.name = NULL;
	r->handle = handle;
	err = err > 0 ? -EIO : err;
	if (PROBE_IS_TRACED(reg))
		PROBE(reg, cache, r->start, len, err, began ? port_now() - began : 0);
	return err;
}

#define COLLIDED	1

/* One round: register, then ask whether the map changed. Return: 0, COLLIDED, or -errno */
static int register_once(struct invlock_cache *cache, struct invlock_section *s,
			 const struct wanted *w, struct region **ret_region)
{
	struct region *r = cache_take(cache, s->start, s->end);
	u64 over = cache_nr_over(cache);
	int err;

	if (!r)
		return -ENOSPC;
	port_store(&r->sort, (u8)w->sort);
	if (w->sort == REGION_KEYED)
		port_store(region_key(cache->keys, cache->pool.regions, r), w->key);
	err = call_reg(cache, r);
	if (err == -ENOMEM) {
		/* Most likely RLIMIT_MEMLOCK is reached: free as much as this takes. */
		bool others = cache_others_made_room(cache, over);

		if (cache_free_idle(cache, MAKE_ROOM, s->end - s->start) || others)
			err = call_reg(cache, r);
	}
	if (err) {
		cache_untake(cache, r);
		return err;
	}
	if (!invlock_commit(s)) {
		cache_deregister(cache, r);
		cache_lock(cache);
		cache->stats.reg_calls++;
		cache->stats.dereg_calls++;
		cache->stats.collided++;
		cache_unlock(cache);
		cache_untake(cache, r);
		return COLLIDED;
	}
	region_validated(r, &s->snap);
	*ret_region = r;
	return 0;
}

/* A monitor can watch only so many ranges: if it is full, free what is dead or idle. */
static int watch_range(struct invlock_cache *cache, u64 start, u64 end, struct look *look)
{
	bool waited = false;
	u64 over;
	int err;

	for (;;) {
		over = cache_nr_over(cache);
		err = mm_watch(cache->mm, start, end, look);
		if (err != -ENOSPC)
			return err;
		if (cache_free_idle(cache, MAKE_ROOM, 0))
			continue;
		if (waited || !cache_others_made_room(cache, over))
			return err;
		waited = true;
	}
}

/* The read section around reg(), for whole pages [start, end). */
static int register_within(struct invlock_cache *cache, u64 start, u64 end,
			   const struct invlock_budget *budget, const struct wanted *w,
			   struct look *look, struct region **ret_region)
{
	struct invlock_section s;
	int err;

	invlock_section_init(&s, &cache->il, start, end, budget, 0);
	do {
		if (!invlock_attempt(&s))
			return invlock_section_error(&s);
		/*
		 * In each round, after the sample: a mapping that replaced another one is not
		 * watched yet.
		 */
		err = watch_range(cache, start, end, look);
		if (err)
			return err;
		err = register_once(cache, &s, w, ret_region);
		/* after a collision cache_deregister() has unwatched it */
		if (err < 0)
			mm_unwatch(cache->mm, start, end);
	} while (err == COLLIDED);
	return err;
}

/* The same, together with what is registered beside it, if the options want that. */
static int register_range(struct invlock_cache *cache, u64 start, u64 end,
			  const struct wanted *w, struct look *look, struct region **ret_region)
{
	/* nobody has asked for the rest: if it changes meanwhile, it is left alone */
	const struct invlock_budget once = { .rounds = 1, .time_ns = cache->budget.time_ns };
	struct look wider_look = *look;
	u64 first = start, last = end;

	if (!(w->flags & INVLOCK_GET_BYPASS) &&
	    cache_widen(cache, w->sort, w->key, &first, &last) &&
	    !register_within(cache, first, last, &once, w, &wider_look, ret_region))
		return 0;
	return register_within(cache, start, end, &cache->budget, w, look, ret_region);
}

static int miss(struct invlock_cache *cache, const struct wanted *w, struct look *look,
		struct invlock_pin *ret_pin)
{
	u64 granule = cache->options.granule;
	u64 first = w->start & ~(granule - 1), last = (w->end + granule - 1) & ~(granule - 1);
	u64 page = page_bytes();
	struct region *r;
	int err;

	PROBE(miss, cache, w->start, w->end - w->start, w->flags);
	cache_tidy(cache);
	/* where pages are larger than FIRST_ADDRESS */
	if (w->start < page)
		return -EINVAL;
	err = register_range(cache, first ? first : page, last, w, look, &r);

	if (err && granule > page) {
		/* the rounding may have reached beyond a limit, or memory that can be registered */
		first = page_down(w->start);
		last = page_up(w->end);
		err = register_range(cache, first, last, w, look, &r);
	}
	return err ? err : publish(cache, r, w, ret_pin);
}

static void count_refused_memory(struct invlock_cache_stats *stats, enum mapped mapped)
{
	stats->refused_memory++;
	stats->refused_shared += mapped == MAPPED_SHARED;
	stats->refused_private += mapped == MAPPED_PRIVATE_FILE;
	stats->refused_dax += mapped == MAPPED_DAX;
	stats->refused_foreign += mapped == MAPPED_FOREIGN;
}

static void count_refused(struct invlock_cache *cache, const struct wanted *w, int err,
			  enum mapped mapped)
{
	PROBE(refused, cache, w->start, w->end - w->start, err);
	cache_lock(cache);
	cache->stats.refused++;
	if (err == -EMEDIUMTYPE)
		count_refused_memory(&cache->stats, mapped);
	else if (err == -ENOSPC)
		cache->stats.refused_full++;
	else if (err == -EBUSY)
		cache->stats.refused_busy++;
	else
		cache->stats.refused_reg++;
	cache_unlock(cache);
}

/*
 * A hit that takes longer. While it is not known whether a region is valid, this waits, within the
 * budget: most likely the region is valid, and another registration is expensive. Return: 0;
 * -ENOENT if there is none; -EBUSY if the time is spent; -errno
 */
static int get_cached(struct invlock_cache *cache, const struct wanted *w,
		      struct invlock_pin *ret_pin)
{
	struct pin_thread *self = thread_get();
	struct pin_slot *slot = self ? thread_slot(self) : NULL;
	struct invlock_section s;
	u32 waits = 0;
	int err;

	if (!slot)
		return -ENOMEM;
	invlock_section_init(&s, &cache->il, w->start, w->end, &cache->budget, 0);
	for (;;) {
		err = find(cache, self, slot, w, ret_pin);
		if (err != -EAGAIN)
			return err;
		if (w->flags & INVLOCK_GET_CACHED)
			return -ENOENT;
		err = invlock_section_wait(&s, waits++);
		if (err) {
			count_refused(cache, w, err, MAPPED_GOOD);
			return err;
		}
	}
}

/*
 * There was no room: perhaps because another thread is registering the same memory. Return: 0 with
 * its region; @err if there is none
 */
static int get_twin(struct invlock_cache *cache, const struct wanted *w, int err,
		    struct invlock_pin *ret_pin)
{
	struct pin_thread *self = thread_get();
	struct pin_slot *slot = self ? thread_slot(self) : NULL;

	if ((err != -ENOSPC && err != -ENOMEM) || w->flags & INVLOCK_GET_BYPASS || !slot)
		return err;
	cache_wait_for_twin(cache, w->start, w->end, w->sort, w->key);
	return find(cache, self, slot, w, ret_pin) ? err : 0;
}

static bool wanted_ok(const struct invlock_cache *cache, const struct wanted *w)
{
	unsigned int known = EXCLUSIVE_FLAGS | (w->sort == REGION_KEYED ? 0 : INVLOCK_GET_READ);

	return user_range_ok(w->start, w->end) && w->end <= MAX_ADDRESS && !(w->flags & ~known) &&
	       (w->flags & EXCLUSIVE_FLAGS) != EXCLUSIVE_FLAGS &&
	       (w->sort == REGION_KEYED ? !!cache->options.reg_key : !!cache->options.ops.reg);
}

static int get_wanted(struct invlock_cache *cache, const struct wanted *w,
		      struct invlock_pin *ret_pin)
{
	struct look look = { .mapped = MAPPED_GOOD };
	int err = -ENOENT, old_state;

	if (!wanted_ok(cache, w))
		return -EINVAL;
	if (!cache_alive(cache))
		return -EOWNERDEAD;
	if (!(w->flags & INVLOCK_GET_BYPASS))
		err = get_cached(cache, w, ret_pin);
	if (err && err != -ENOENT)
		cache_tell(cache);
	if (err != -ENOENT || w->flags & INVLOCK_GET_CACHED)
		return err;
	/* neither reg() nor this thread, which takes locks, may be cancelled half-way */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	err = miss(cache, w, &look, ret_pin);
	if (unlikely(err))
		err = get_twin(cache, w, err, ret_pin);
	if (err)
		count_refused(cache, w, err, look.mapped);
	pthread_setcancelstate(old_state, NULL);
	if (unlikely(err))
		cache_tell(cache);
	return err;
}

/* Everything but a fast hit. Never inlined, so that a fast hit need not save registers for it. */
__attribute__((noinline)) INVLOCK_ONLY_ADDRESS(2)
static int get_slow(struct invlock_cache *cache, const void *addr, size_t len,
			 unsigned int flags, struct invlock_pin *ret_pin)
{
	struct wanted w = {
		.start = (unsigned long)addr, .end = (unsigned long)addr + len, .flags = flags,
	};

	if (!cache || !ret_pin)
		return -EINVAL;
	if (flags & INVLOCK_GET_READ && cache->options.reg_read)
		w.sort = REGION_READ_ONLY;
	return get_wanted(cache, &w, ret_pin);
}

/* self->slot holds @r, and the fast check of the hit was inconclusive. */
__attribute__((noinline)) INVLOCK_ONLY_ADDRESS(2)
static int hit_slow(struct invlock_cache *cache, const void *addr, size_t len,
		       unsigned int flags, struct invlock_pin *ret_pin, struct region *r)
{
	struct pin_thread *self = thread_self;

	if (region_hit_slow(&cache->il, r, (unsigned long)addr, len) && region_is_writable(r)) {
		hit(cache, self, self->slot, r, ret_pin);
		return 0;
	}
	port_store_release(&self->slot->region, NULL);
	return get_slow(cache, addr, len, flags, ret_pin);
}

/*
 * The fast path. It checks neither @len, because no bad range lies in a region, nor whether this is
 * a forked child, because a child's thread walks no table (thread.h).
 */
__attribute__((always_inline))
INVLOCK_ONLY_ADDRESS(2)
static inline int get(struct invlock_cache *cache, const void *addr, size_t len,
		      unsigned int flags, struct invlock_pin *ret_pin)
{
	u64 start = (unsigned long)addr;
	struct pin_thread *self = thread_self;
	struct region *r;

	if (unlikely(!cache || !ret_pin))
		return -EINVAL;
	if (unlikely(!index_try_find(&cache->index, self, start, len, INDEX_FULL, &r)))
		return get_slow(cache, addr, len, flags, ret_pin);
	if (unlikely(!region_hit(&cache->il, r, start, len) || !region_is_writable(r)))
		return hit_slow(cache, addr, len, flags, ret_pin, r);
	hit(cache, self, self->slot, r, ret_pin);
	return 0;
}

/* A hit for a reader: most such gets use a region that was registered for reading only. */
INVLOCK_ONLY_ADDRESS(2)
static int get_read(struct invlock_cache *cache, const void *addr, size_t len, unsigned int flags,
		    struct invlock_pin *ret_pin)
{
	u64 start = (unsigned long)addr;
	struct pin_thread *self = thread_self;
	struct region *r;

	if (cache && ret_pin &&
	    index_try_find(&cache->index, self, start, len, INDEX_READ_ONLY, &r)) {
		if (region_hit(&cache->il, r, start, len) &&
		    port_load(&r->sort) != REGION_KEYED) {
			hit(cache, self, self->slot, r, ret_pin);
			return 0;
		}
		port_store_release(&self->slot->region, NULL);
	}
	return get_slow(cache, addr, len, flags, ret_pin);
}

/* Out of line, so that the path without flags spills no registers. */
__attribute__((noinline)) INVLOCK_ONLY_ADDRESS(2)
static int get_flags_slow(struct invlock_cache *cache, const void *addr, size_t len,
			  unsigned int flags, struct invlock_pin *ret_pin)
{
	if (likely(flags == INVLOCK_GET_CACHED))
		return get(cache, addr, len, INVLOCK_GET_CACHED, ret_pin);
	return flags & INVLOCK_GET_READ && !(flags & INVLOCK_GET_BYPASS) ?
	       get_read(cache, addr, len, flags, ret_pin) :
	       get_slow(cache, addr, len, flags, ret_pin);
}

int invlock_cache_get(struct invlock_cache *cache, const void *addr, size_t len,
		      unsigned int flags, struct invlock_pin *ret_pin)
{
	return likely(!flags) ? get(cache, addr, len, 0, ret_pin) :
	       get_flags_slow(cache, addr, len, flags, ret_pin);
}

__attribute__((noinline)) INVLOCK_ONLY_ADDRESS(2)
static int get_key_slow(struct invlock_cache *cache, const void *addr, size_t len,
			unsigned int flags, uint64_t key, struct invlock_pin *ret_pin)
{
	struct wanted w = {
		.start = (unsigned long)addr,
		.end = (unsigned long)addr + len,
		.flags = flags,
		.sort = REGION_KEYED,
		.key = key,
	};

	return cache && ret_pin ? get_wanted(cache, &w, ret_pin) : -EINVAL;
}

int invlock_cache_get_key(struct invlock_cache *cache, const void *addr, size_t len,
			  unsigned int flags, uint64_t key, struct invlock_pin *ret_pin)
{
	u64 start = (unsigned long)addr;
	struct pin_thread *self = thread_self;
	struct region *r;

	if (cache && ret_pin && !(flags & ~INVLOCK_GET_CACHED) && cache->keys &&
	    index_try_find(&cache->index, self, start, len, index_keyed(key), &r)) {
		if (region_hit(&cache->il, r, start, len) &&
		    region_has_key(cache->keys, cache->index.regions, r, key)) {
			hit(cache, self, self->slot, r, ret_pin);
			return 0;
		}
		port_store_release(&self->slot->region, NULL);
	}
	return get_key_slow(cache, addr, len, flags, key, ret_pin);
}

/* Release: the device's work is done before the region can be reused. */
static inline void empty_slot(struct pin_slot *slot, u64 ticket)
{
	port_store(&slot->ticket, ticket + 1);
	port_store_release(&slot->region, NULL);
}

__attribute__((noinline))
static int put_slow(const struct invlock_pin *pin, const struct region *r)
{
	struct invlock_cache *cache = pin->cache;
	bool alone = r->alone;
	int old_state;

	empty_slot(pin->slot, pin->ticket);
	if (!alone) {
		cache_kick(cache);
		return 0;
	}
	/* as in a miss, a thread is not cancelled in dereg() */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	cache_bury(cache);
	pthread_setcancelstate(old_state, NULL);
	return 0;
}

int invlock_cache_put(struct invlock_pin *pin)
{
	const struct region *r;
	struct pin_slot *slot;
	u64 ticket;

	if (unlikely(!pin || !pin->slot))
		return -EINVAL;
	slot = pin->slot;
	ticket = port_load(&slot->ticket);
	if (unlikely(ticket != pin->ticket))
		return ticket ? -EINVAL : -EOWNERDEAD;
	r = port_load(&slot->region);
	/* The slot still protects the region here. If it dies later, the reaper finds that out. */
	if (unlikely(port_load(&r->state) == REGION_DEAD))
		return put_slow(pin, r);
	empty_slot(slot, ticket);
	return 0;
}
