// SPDX-License-Identifier: MIT
/* The io_uring adapter: open, close, stats. */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "adapter.h"
#include "adapters/common.h"

#define DEFAULT_SLOTS	1024u
#define REAPER_FLAGS	(INVLOCK_URING_REAPER | INVLOCK_URING_NO_REAPER)
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
};

_Static_assert(sizeof(way_names) / sizeof(way_names[0]) == INVLOCK_URING_NR_WAYS,
	       "each way has a name");

const char *invlock_uring_way_name(unsigned int way)
{
	return way < INVLOCK_URING_NR_WAYS ? way_names[way] : "unknown";
}

/* may this process lock more than RLIMIT_MEMLOCK? */
static bool may_lock_all(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {};

	if (syscall(SYS_capget, &header, caps))
		return false;
	return caps[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK);
}

/* If the program names no limit, RLIMIT_MEMLOCK is the limit. */
static void limit_by_memlock(struct invlock_uring *uring)
{
	struct rlimit limit;

	if (uring->max_bytes || may_lock_all() || getrlimit(RLIMIT_MEMLOCK, &limit) ||
	    limit.rlim_cur == RLIM_INFINITY)
		return;
	/* 0 would mean no limit */
	uring->max_bytes = limit.rlim_cur ? limit.rlim_cur : 1;
	uring->max_is_memlock = true;
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
	if (ret->flags == REAPER_FLAGS)
		return explain(why, -EINVAL, "the options ask for a reaper and for none");
	if (ret->flags & ~REAPER_FLAGS)
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

static int open_cache(struct invlock_uring *uring, const struct invlock_uring_options *o,
		      struct invlock_why *why)
{
	struct invlock_cache_options options = {
		.size = sizeof(options),
		.flags = uring->one_thread || o->flags & INVLOCK_URING_NO_REAPER ?
			 INVLOCK_CACHE_NO_REAPER : INVLOCK_CACHE_REAPER,
		.ops = { .reg = slot_register, .dereg = slot_clear },
		.ctx = uring,
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

static void destroy(struct invlock_uring *uring)
{
	slots_free(&uring->slots);
	free(uring);
}

/* Makes the adapter, but not yet its table and its cache. */
static int create(struct io_uring *ring, struct invlock_mm *mm,
		  const struct invlock_uring_options *o, struct invlock_uring **ret_uring,
		  struct invlock_why *why)
{
	struct invlock_uring *uring = aligned_alloc(64, sizeof(*uring));
	int err;

	if (!uring)
		return explain(why, -ENOMEM, "out of memory");
	*uring = (struct invlock_uring){
		.ring = ring,
		.mm = mm,
		.budget = { .rounds = o->rounds, .time_ns = o->time_ns },
		.page = sysconf(_SC_PAGESIZE),
		.min_len = o->min_len,
		.align_mask = o->align - 1,
		.max_bytes = o->max_bytes,
		.one_thread = ring->flags & IORING_SETUP_SINGLE_ISSUER,
		.memlock_next = 1,
	};
	limit_by_memlock(uring);
	err = slots_init(&uring->slots, o->slots);
	if (err) {
		free(uring);
		return explain(why, err, "out of memory");
	}
	*ret_uring = uring;
	return 0;
}

int invlock_uring_open(struct io_uring *ring, struct invlock_mm *mm,
		       const struct invlock_uring_options *options,
		       struct invlock_uring **ret_uring, struct invlock_why *why)
{
	struct invlock_uring_options o;
	struct invlock_uring *uring = NULL;
	int err;

	if (why)
		why->text[0] = '\0';
	if (!ring || !mm || !ret_uring)
		return explain(why, -EINVAL, "%s is NULL",
			       !ring ? "ring" : !mm ? "mm" : "ret_uring");
	if (!ring_has_descriptor(ring))
		return explain(why, -EINVAL, "the ring has no descriptor, only a number that "
			       "means it on one thread: set it up without "
			       "IORING_SETUP_REGISTERED_FD_ONLY, and do not call "
			       "io_uring_close_ring_fd()");
	err = check_options(options, &o, why);
	if (err)
		return err;
	err = create(ring, mm, &o, &uring, why);
	if (err)
		return err;
	err = take_table(ring, o.slots, why);
	if (err)
		goto destroy_uring;
	err = open_cache(uring, &o, why);
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

int invlock_uring_close(struct invlock_uring *uring)
{
	bool mine;
	int err;

	if (!uring)
		return 0;
	mine = !uring_alive(uring);
	if (mine && !ring_is_ours(uring))
		return -EEXIST;
	/* Before the cache, which holds the mm. If it says -EBUSY, refusals are learned anew. */
	refused_clear(&uring->refused);
	err = invlock_cache_close(uring->cache);
	if (err)
		return err;
	/* Every slot is clear by now: if this fails, the ring keeps an empty table. */
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
	slots = (struct slots *)&uring->slots;
	pthread_mutex_lock(&slots->lock);
	s.slots = slots->nr;
	s.slots_used = slots->nr - slots->nr_free;
	s.uncleared = slots->nr_uncleared;
	pthread_mutex_unlock(&slots->lock);
	s.max_bytes = uring->max_bytes;
	/* done first: a request that is done is also counted as prepared */
	s.in_flight = -uring_nr_done(uring);
	for (unsigned int i = 0; i < sizeof(s.ways) / sizeof(s.ways[0]); i++)
		s.ways[i] = uring_nr_prepared(uring, i);
	s.in_flight += s.ways[INVLOCK_URING_FIXED];
	return results_out(ret_stats, &s, sizeof(s));
}
