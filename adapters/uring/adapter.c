// SPDX-License-Identifier: MIT
/* The io_uring adapter: open, close, stats. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/common.h"
#include "adapters/memlock.h"
#include "share.h"

#define DEFAULT_SLOTS	1024u
#define REAPER_FLAGS	(INVLOCK_URING_REAPER | INVLOCK_URING_NO_REAPER)
#define KNOWN_FLAGS	(REAPER_FLAGS | INVLOCK_URING_SHARE)
#define DEFAULT_MIN_LEN	16384

static const char *const way_names[] = {
	[INVLOCK_URING_FIXED] = "fixed",
	[INVLOCK_URING_SMALL] = "small",
	[INVLOCK_URING_LARGE] = "large",
	[INVLOCK_URING_REFUSED] = "refused",
	[INVLOCK_URING_KNOWN] = "known",
	[INVLOCK_URING_FULL] = "full",
	[INVLOCK_URING_MEMLOCK] = "memlock",
	[INVLOCK_URING_COLLIDED] = "collided",
	[INVLOCK_URING_THREAD] = "thread",
	[INVLOCK_URING_UNWATCHED] = "unwatched",
	[INVLOCK_URING_OTHER] = "other",
	[INVLOCK_URING_UNALIGNED] = "unaligned",
	[INVLOCK_URING_SCATTERED] = "scattered",
	[INVLOCK_URING_UNSUPPORTED] = "unsupported",
};

_Static_assert(sizeof(way_names) / sizeof(way_names[0]) == INVLOCK_URING_NR_WAYS,
	       "each way has a name");

const char *invlock_uring_way_name(unsigned int way)
{
	return way < INVLOCK_URING_NR_WAYS ? way_names[way] : "unknown";
}

/* If the program names no limit, RLIMIT_MEMLOCK is the limit. */
static void limit_by_memlock(struct invlock_uring *uring)
{
	if (uring->max_bytes)
		return;
	uring->max_bytes = memlock_limit();
	uring->max_is_memlock = uring->max_bytes;
}

static int check_options(const struct invlock_uring_options *options,
			 struct invlock_uring_options *ret, struct invlock_why *why)
{
	int err = 0;

	*ret = (struct invlock_uring_options){ .size = sizeof(*ret) };
	if (options)
		err = options_in("invlock_uring_options", ret, sizeof(*ret), options, why);
	if (err)
		return err;
	if ((ret->flags & REAPER_FLAGS) == REAPER_FLAGS)
		return explain(why, -EINVAL, "the options ask for a reaper and for none");
	if (ret->flags & ~KNOWN_FLAGS)
		return explain(why, -EINVAL, "the options have unknown flags: %#x", ret->flags);
	if (ret->slots > URING_MAX_SLOTS)
		return explain(why, -EINVAL, "%u slots are more than io_uring's limit of %u",
			       ret->slots, URING_MAX_SLOTS);
	if (ret->align & (ret->align - 1))
		return explain(why, -EINVAL, "align is %u; it must be a power of two", ret->align);
	if (!ret->slots)
		ret->slots = DEFAULT_SLOTS;
	if (!ret->min_len)
		ret->min_len = DEFAULT_MIN_LEN;
	if (!ret->align)
		ret->align = default_align();
	return 0;
}

static int take_table(struct io_uring *ring, unsigned int slots, struct invlock_why *why)
{
	int err = ring_make_table(ring, slots);

	switch (err) {
	case 0:
		return 0;
	case -EBUSY:
		return explain(why, err, "the ring has registered buffers already, and can have "
			       "one table: unregister them, or give the adapter another ring");
	case -EINVAL:
		return explain(why, -ENOSYS, "this kernel has no sparse buffer tables: io_uring's "
			       "adapter needs Linux 5.19 or newer");
	case -EEXIST:
		return explain(why, err, "the ring belongs to another thread "
			       "(IORING_SETUP_SINGLE_ISSUER): open the adapter on that thread");
	default:
		return explain(why, err, "the kernel refused a buffer table of %u slots: %s", slots,
			       strerror(-err));
	}
}

static int open_cache(struct invlock_uring *uring, struct invlock_why *why)
{
	const struct invlock_uring_options *o = &uring->options;
	/* The reaper may not touch a ring of one thread, but it may touch the share's. */
	bool reaper = !(o->flags & INVLOCK_URING_NO_REAPER) && (uring->share || !uring->one_thread);
	struct invlock_cache_options options = {
		.size = sizeof(options),
		.flags = reaper ? INVLOCK_CACHE_REAPER : INVLOCK_CACHE_NO_REAPER,
		.ops = { .reg = slot_register, .dereg = slot_clear },
		.ctx = uring->slots,
		.need = o->need,
		.max_entries = o->slots,
		.max_bytes = uring->max_bytes,
		.granule = o->granule,
		.rounds = o->rounds,
		.time_ns = o->time_ns,
		.reap_ms = o->reap_ms,
	};

	return invlock_cache_open(uring->mm, &options, &uring->cache, why);
}

/* Makes the adapter, but not yet its table and its cache. NULL: memory is short */
static struct invlock_uring *create(struct io_uring *ring, struct invlock_mm *mm,
				    const struct invlock_uring_options *o)
{
	struct invlock_uring *uring = aligned_alloc(64, sizeof(*uring));

	if (!uring)
		return NULL;
	*uring = (struct invlock_uring){
		.ring = ring,
		.mm = mm,
		.budget = { .rounds = o->rounds, .time_ns = o->time_ns },
		.page = sysconf(_SC_PAGESIZE),
		.min_len = o->min_len,
		.align_mask = o->align - 1,
		.max_bytes = o->max_bytes,
		.one_thread = ring->flags & IORING_SETUP_SINGLE_ISSUER,
		.vectors = ring_knows(ring, RING_READV_FIXED),
		.options = *o,
		.memlock_next = 1,
	};
	limit_by_memlock(uring);
	return uring;
}

/* A cache of its own: it registers in the ring's table, or in a share that other rings may join. */
static int connect_alone(struct invlock_uring *uring, struct invlock_why *why)
{
	int err;

	if (uring->options.flags & INVLOCK_URING_SHARE)
		share_new(uring);
	if (!uring->share)
		uring->slots = slots_new(uring->ring, uring->options.slots);
	if (!uring->slots)
		return explain(why, -ENOMEM, "out of memory");
	err = open_cache(uring, why);
	if (err && uring->share)
		share_free(uring->share);
	else if (err)
		slots_free(uring->slots);
	return err;
}

static bool connect_to(struct invlock_uring *uring, struct invlock_uring *other)
{
	if (!other->share || !share_add(other->share, uring))
		return false;
	uring->cache = other->cache;
	uring->max_bytes = other->max_bytes;
	uring->max_is_memlock = other->max_is_memlock;
	return true;
}

static void destroy(struct invlock_uring *uring)
{
	free(uring->copies);
	free(uring);
}

/* @other: an adapter to share with, or NULL */
static int take_over(struct io_uring *ring, struct invlock_mm *mm,
		     const struct invlock_uring_options *o, struct invlock_uring *other,
		     struct invlock_uring **ret_uring, struct invlock_why *why)
{
	struct invlock_uring *uring;
	int err;

	if (!ring_has_descriptor(ring))
		return explain(why, -EINVAL, "the ring has no descriptor, only a number that "
			       "means it on one thread: set it up without "
			       "IORING_SETUP_REGISTERED_FD_ONLY, and do not call "
			       "io_uring_close_ring_fd()");
	uring = create(ring, mm, o);
	if (!uring)
		return explain(why, -ENOMEM, "out of memory");
	err = take_table(ring, o->slots, why);
	if (err)
		goto destroy_uring;
	if (!other || !connect_to(uring, other))
		err = connect_alone(uring, why);
	if (err)
		goto give_table;
	*ret_uring = uring;
	return 0;

give_table:
	ring_drop_table(ring);
destroy_uring:
	destroy(uring);
	return err;
}

int invlock_uring_open(struct io_uring *ring, struct invlock_mm *mm,
		       const struct invlock_uring_options *options,
		       struct invlock_uring **ret_uring, struct invlock_why *why)
{
	struct invlock_uring_options o;
	int err;

	if (why)
		why->text[0] = '\0';
	if (!ring || !mm || !ret_uring)
		return explain(why, -EINVAL, "%s is NULL",
			       !ring ? "ring" : !mm ? "mm" : "ret_uring");
	err = check_options(options, &o, why);
	return err ? err : take_over(ring, mm, &o, NULL, ret_uring, why);
}

int invlock_uring_join(struct io_uring *ring, struct invlock_uring *other,
		       struct invlock_uring **ret_uring, struct invlock_why *why)
{
	if (why)
		why->text[0] = '\0';
	if (!ring || !other || !ret_uring)
		return explain(why, -EINVAL, "%s is NULL",
			       !ring ? "ring" : !other ? "other" : "ret_uring");
	if (uring_alive(other))
		return explain(why, -EOWNERDEAD, "the other adapter is of the process that forked "
			       "this one: open one here");
	if (!(other->options.flags & INVLOCK_URING_SHARE))
		return explain(why, -EINVAL, "the other adapter does not share: open it with "
			       "INVLOCK_URING_SHARE");
	return take_over(ring, other->mm, &other->options, other, ret_uring, why);
}

/* The adapter's part in its cache ends; 0 or -EBUSY. */
static int disconnect(struct invlock_uring *uring)
{
	int err;

	if (uring->share && share_remove(uring->share, uring))
		return 0;
	err = invlock_cache_close(uring->cache);
	if (err)
		return err;
	if (uring->share)
		share_free(uring->share);
	else
		slots_free(uring->slots);
	return 0;
}

int invlock_uring_close(struct invlock_uring *uring)
{
	bool mine;
	int err;

	if (!uring)
		return 0;
	mine = !uring_alive(uring);
	if (mine && !ring_is_ours(uring))
		return -EEXIST;
	if (mine && uring_in_flight(uring))
		return -EBUSY;
	/* Before the cache, which holds the mm. If it says -EBUSY, refusals are learned anew. */
	refused_clear(&uring->refused);
	err = disconnect(uring);
	if (err)
		return err;
	/* No request uses the table any more: if this fails, the ring keeps it. */
	if (mine)
		ring_drop_table(uring->ring);
	destroy(uring);
	return 0;
}

struct invlock_cache *invlock_uring_cache(const struct invlock_uring *uring)
{
	return uring ? uring->cache : NULL;
}

int invlock_uring_stats(const struct invlock_uring *uring, struct invlock_uring_stats *ret_stats)
{
	struct invlock_uring_stats s = {};
	struct slots *slots;
	int err;

	if (!uring || !ret_stats)
		return -EINVAL;
	err = uring_alive(uring);
	if (err)
		return err;
	slots = uring->slots;
	pthread_mutex_lock(&slots->lock);
	s.slots = slots->nr;
	s.slots_used = slots->nr - slots->nr_free;
	s.uncleared = slots->nr_uncleared;
	pthread_mutex_unlock(&slots->lock);
	s.sharing = uring->share ? share_nr_rings(uring->share) : 1;
	if (uring->share)
		s.uncleared += share_nr_dead(uring);
	s.max_bytes = uring->max_bytes;
	s.in_flight = uring_in_flight(uring);
	for (unsigned int i = 0; i < sizeof(s.ways) / sizeof(s.ways[0]); i++)
		s.ways[i] = uring_nr_prepared(uring, i);
	return results_out(ret_stats, &s, sizeof(s));
}
