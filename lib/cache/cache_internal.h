/* SPDX-License-Identifier: MIT */
/*
 * The inside of the cache.
 *
 *	get.c		get, put
 *	open.c		open, close, drop, stats
 *	list.c		what is registered
 *	twin.c		a registration that another thread is making
 *	merge.c		registrations that take the place of smaller ones
 *	evict.c		limits, eviction, and what happens to dead regions
 *	reap.c		when dead regions are looked for
 *	reaper.[ch]	the thread that looks for those of all caches
 *	index.[ch]	from an address to a region
 *	region.[ch]	the translations that the cache holds
 *	pin.[ch]	which of them are in use
 *	thread.[ch]	each thread's record of its pins
 *
 * Lock order: mm_lock(), the reaper's lock, cache->lock. The last is the innermost: no callback, no
 * wait and no call of ours that takes another lock runs under it.
 */
#ifndef INVLOCK_LIB_CACHE_CACHE_INTERNAL_H
#define INVLOCK_LIB_CACHE_CACHE_INTERNAL_H

#include <invlock/cache.h>
#include <pthread.h>

#include "index.h"
#include "core/section.h"
#include "lib/mm.h"
#include "lib/own_fd.h"
#include "lib/page.h"

struct invlock_cache {
	/* what a hit reads is the first line; constant after open, but for the index */
	struct index index;	/* changed under lock, slowly */
	long counter;		/* of hits, beside each thread's record */
	struct invlock il;	/* a copy of the mm's: a hit reads it on this line */

	/* the rest of what is constant after open */
	const u32 *alive;	/* the mm's: 0 in a forked child */
	u64 *keys;		/* the pool's; NULL = the cache has no keys */
	struct invlock_mm *mm;
	struct invlock_cache_options options;
	struct invlock_budget budget;
	size_t pool_bytes;

	/* read and written without a lock */
	struct own_timer timer;	/* time to reap, where there is no reaper */
	bool active;		/* there are regions, and the reaper or the timer knows */
	bool kicked;		/* the reaper is to look at once */
	/* masks of enum trouble: what came up, and what was logged; written under lock */
	u32 troubles, told;
	u64 reap_at;		/* when it is to look, at the latest */

	struct invlock_cache *reap_next;	/* the reaper's list and lock */

	pthread_mutex_t lock __attribute__((aligned(64)));	/* guards the rest */
	struct region_pool pool;
	struct index_table *retired;
	struct invlock_cache_stats stats;
	u64 looked_at;		/* the sequence up to which all regions were validated */
	u32 sweep_at;		/* where the next miss validates some of them */
	u32 nr_left;		/* dead regions that were pinned when the last ones were buried */
	u32 nr_coming;		/* regions that were taken and are neither filed nor given back */
	struct burial *burials;	/* under way */
	u64 nr_burials;		/* how many have begun */
	u64 nr_over;		/* how many of them are over; read without the lock */
};

/* Dead regions that a thread has taken to deregister them. On its stack; the cache's lock */
struct burial {
	struct burial *next;
	u64 nr;			/* it was the nr-th to begin */
};

/* What a cache finds out under its lock, and cache_tell() logs. */
enum trouble {
	TROUBLE_BARRIER	= 1,	/* the kernel refuses the heavy barrier */
	TROUBLE_TIMER	= 2,	/* the program has closed the timer */
	TROUBLE_INDEX	= 4,	/* no memory for a larger index */
};

/* Locks: held */
static inline void cache_has_trouble(struct invlock_cache *cache, enum trouble trouble)
{
	port_store(&cache->troubles, port_load(&cache->troubles) | trouble);
}

/* Logs what troubles the cache, once each, and that its feed is closed. Locks: none */
void cache_tell(struct invlock_cache *cache);

/* A callback of the program that is running; its name is NULL when it has returned. */
struct callback {
	const char *name;
	const struct invlock_cache *outer;	/* whose callback has made the call to us */
};

/* The cache in whose callback this thread is, or NULL. */
extern _Thread_local const struct invlock_cache *cache_in_callback
	__attribute__((tls_model("initial-exec")));

/* ends the process, with a sentence */
void callback_did_not_return(const char *name);

/* Runs when the callback returns, throws, or ends its thread, after which nothing can be mended. */
static inline void callback_over(const struct callback *callback)
{
	if (unlikely(callback->name))
		callback_did_not_return(callback->name);
	cache_in_callback = callback->outer;
}

/* The library is compiled with -fexceptions: so callback_over() runs in all these cases. */
#define CALLBACK(cache, what)						\
	struct callback callback __attribute__((cleanup(callback_over))) = {	\
		what, cache_in_callback,				\
	};								\
	cache_in_callback = (cache)

static inline bool cache_alive(const struct invlock_cache *cache)
{
	return port_load(cache->alive);
}

static inline void cache_lock(struct invlock_cache *cache)
{
	pthread_mutex_lock(&cache->lock);
}

static inline void cache_unlock(struct invlock_cache *cache)
{
	pthread_mutex_unlock(&cache->lock);
}

/*
 * Take a region for [start, end), and evict others if need be. It counts against the limits, and
 * the caller files it in the index or kills it. NULL = pinned regions, and those that are being
 * registered, alone reach the limits.
 */
struct region *cache_take(struct invlock_cache *cache, u64 start, u64 end);

/* give back a region that was taken and is not registered */
void cache_untake(struct invlock_cache *cache, struct region *r);

/* Evicts at least so many idle regions, and so many bytes; deregisters. Return: was there any? */
bool cache_free_idle(struct invlock_cache *cache, u32 nr, u64 bytes);

/*
 * How many burials are over, for cache_others_made_room(): an old number costs another attempt.
 * Acquire: it is read before the attempt that finds no room.
 */
static inline u64 cache_nr_over(const struct invlock_cache *cache)
{
	return port_load_acquire(&cache->nr_over);
}

/*
 * Others may have taken what is dead, to deregister it: it is neither dead nor free then, so
 * finding nothing to free is no reason to give up. Waits for it, within the time of the budget.
 * @over: cache_nr_over() before there was no room. Locks: none. Return: is there room since?
 */
bool cache_others_made_room(struct invlock_cache *cache, u64 over);

/*
 * Waits, within the time of the budget, while another thread registers a region that would do for
 * this range. Not in a callback: it may be the region. Locks: none
 */
void cache_wait_for_twin(struct invlock_cache *cache, u64 start, u64 end, enum region_sort sort,
			 u64 key);

/* the time of the budget */
static inline u64 cache_time_ns(const struct invlock_cache *cache)
{
	return cache->budget.time_ns ? cache->budget.time_ns : INVLOCK_DEFAULT_TIME_NS;
}

/* Waits until what other threads are deregistering now is gone. Locks: none */
void cache_wait_for_burials(struct invlock_cache *cache);

/* put a region in the index; Locks: held. false = no memory for a larger table */
bool cache_file_locked(struct invlock_cache *cache, struct region *r);

/* LIVE -> DEAD, out of the index if it is there; Locks: held */
void cache_kill_locked(struct invlock_cache *cache, struct region *r);

/* undo what reg() did; Locks: none */
void cache_deregister(struct invlock_cache *cache, struct region *r);

/* call @each for all filed regions that overlap [start, end); it may kill it. Locks: held */
void cache_each_overlap_locked(struct invlock_cache *cache, u64 start, u64 end,
			       void (*each)(struct region *r, void *arg), void *arg);

/*
 * Extends a range that is to be registered over regions that it overlaps or adjoins, as far
 * as options.max_merged allows. @key: where @sort is REGION_KEYED. Locks: none. Return: false if
 * the range stays as it is
 */
bool cache_widen(struct invlock_cache *cache, enum region_sort sort, u64 key, u64 *start, u64 *end);

/* kill the regions that r, which is filed, makes superfluous. Locks: held. Return: their number */
u32 cache_replace_locked(struct invlock_cache *cache, struct region *r, u64 key);

/* is any region in use? No other call may run. */
bool cache_is_pinned(struct invlock_cache *cache);

/* the same with nr regions from @at on; Locks: held. Return: where to go on */
u32 cache_kill_some_locked(struct invlock_cache *cache, u32 at, u32 nr);

/* a miss is about to register: look for dead regions a little. Locks: none */
void cache_tidy(struct invlock_cache *cache);

/* find what has become stale, and kill it; Locks: none */
void cache_kill_stale(struct invlock_cache *cache);

/* deregister every dead region that is not in use; the number. Locks: none */
int cache_bury(struct invlock_cache *cache);

/* join the reaper, or make the timer if the options want none; 0 or -errno and a sentence */
int cache_begin_reaping(struct invlock_cache *cache, struct invlock_why *why);

/* end it; @mine is false in a forked child, which has no reaper */
void cache_end_reaping(struct invlock_cache *cache, bool mine);

/* how often the reaper looks, in nanoseconds */
u64 cache_reap_ns(const struct invlock_cache *cache);

/* let the reaper look, or the timer run, as long as the cache has regions; Locks: held */
void cache_set_active_locked(struct invlock_cache *cache);

/* have it looked for the dead at once. Context: any that may make a system call */
void cache_kick(struct invlock_cache *cache);

#endif /* INVLOCK_LIB_CACHE_CACHE_INTERNAL_H */
