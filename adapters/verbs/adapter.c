// SPDX-License-Identifier: MIT
/* The adapter for RDMA verbs: open, close, get, put. */
#include <stdlib.h>

#include "adapter.h"
#include "adapters/common.h"
#include "adapters/memlock.h"

#define KNOWN_FLAGS	(INVLOCK_VERBS_REAPER | INVLOCK_VERBS_NO_REAPER)

static int check_options(const struct invlock_verbs_options *options,
			 struct invlock_verbs_options *ret, struct invlock_why *why)
{
	int err = 0;

	*ret = (struct invlock_verbs_options){ .size = sizeof(*ret) };
	if (options)
		err = options_in("invlock_verbs_options", ret, sizeof(*ret), options, why);
	if (err)
		return err;
	if (ret->flags == KNOWN_FLAGS)
		return explain(why, -EINVAL, "the options ask for a reaper and for none");
	if (ret->flags & ~KNOWN_FLAGS)
		return explain(why, -EINVAL, "the options have unknown flags: %#x", ret->flags);
	if (ret->reserved)
		return explain(why, -EINVAL, "reserved is %u in the options; it must be 0",
			       ret->reserved);
	if (!ret->access)
		ret->access = IBV_ACCESS_LOCAL_WRITE;
	return verbs_check_access(ret->access, why);
}

static int open_cache(struct invlock_verbs *verbs, const struct invlock_verbs_options *o,
		      struct invlock_why *why)
{
	struct invlock_cache_options options = {
		.size = sizeof(options),
		.flags = o->flags & INVLOCK_VERBS_NO_REAPER ? INVLOCK_CACHE_NO_REAPER :
			 INVLOCK_CACHE_REAPER,
		.ops = { .dereg = verbs_deregister },
		.reg_key = verbs_register,
		.ctx = verbs,
		.need = o->need,
		.max_entries = o->max_entries,
		.max_bytes = verbs->max_bytes,
		.granule = o->granule,
		.rounds = o->rounds,
		.time_ns = o->time_ns,
		.reap_ms = o->reap_ms,
	};

	return invlock_cache_open(verbs->mm, &options, &verbs->cache, why);
}

int invlock_verbs_open(struct invlock_mm *mm, const struct invlock_verbs_options *options,
		       struct invlock_verbs **ret_verbs, struct invlock_why *why)
{
	struct invlock_verbs_options o;
	struct invlock_verbs *verbs;
	int err;

	if (why)
		why->text[0] = '\0';
	if (!mm || !ret_verbs)
		return explain(why, -EINVAL, "%s is NULL", !mm ? "mm" : "ret_verbs");
	err = check_options(options, &o, why);
	if (err)
		return err;
	verbs = calloc(1, sizeof(*verbs));
	if (!verbs)
		return explain(why, -ENOMEM, "out of memory");
	verbs->mm = mm;
	verbs->access = o.access;
	verbs->max_bytes = o.max_bytes ? o.max_bytes : memlock_limit();
	verbs->max_is_memlock = !o.max_bytes;
	pthread_mutex_init(&verbs->lock, NULL);
	err = open_cache(verbs, &o, why);
	if (err)
		free(verbs);
	else
		*ret_verbs = verbs;
	return err;
}

int invlock_verbs_close(struct invlock_verbs *verbs)
{
	int err;

	if (!verbs)
		return 0;
	err = invlock_cache_close(verbs->cache);
	if (!err)
		free(verbs);
	return err;
}

int invlock_verbs_get(struct invlock_verbs *verbs, struct ibv_pd *pd, const void *addr, size_t len,
		      unsigned int access, struct invlock_verbs_pin *ret_pin)
{
	struct ibv_mr *mr;
	int place, err;

	if (!verbs || !pd || !ret_pin)
		return -EINVAL;
	err = verbs_alive(verbs);
	if (err)
		return err;
	if (!access)
		access = verbs->access;
	else if (access != verbs->access && verbs_check_access(access, NULL))
		return -EINVAL;
	place = verbs_find_domain(verbs, pd);
	if (place < 0)
		return place;
	err = invlock_cache_get_key(verbs->cache, addr, len, 0, verbs_key(place, access),
				    &ret_pin->pin);
	if (err)
		return err;
	mr = (struct ibv_mr *)(uintptr_t)ret_pin->pin.handle;
	ret_pin->addr = ret_pin->pin.addr;
	ret_pin->len = ret_pin->pin.len;
	ret_pin->mr = mr;
	ret_pin->lkey = mr->lkey;
	ret_pin->rkey = mr->rkey;
	return 0;
}

int invlock_verbs_put(struct invlock_verbs_pin *pin)
{
	return pin ? invlock_cache_put(&pin->pin) : -EINVAL;
}

struct invlock_cache *invlock_verbs_cache(const struct invlock_verbs *verbs)
{
	return verbs ? verbs->cache : NULL;
}

int invlock_verbs_stats(const struct invlock_verbs *verbs, struct invlock_verbs_stats *ret_stats)
{
	struct invlock_verbs_stats s = {};
	unsigned int nr;
	int err;

	if (!verbs || !ret_stats)
		return -EINVAL;
	err = verbs_alive(verbs);
	if (err)
		return err;
	nr = __atomic_load_n(&verbs->nr_domains, __ATOMIC_ACQUIRE);
	for (unsigned int i = 0; i < nr; i++) {
		s.domains += !!__atomic_load_n(&verbs->domains[i].pd, __ATOMIC_RELAXED);
		s.regions += __atomic_load_n(&verbs->domains[i].nr_regions, __ATOMIC_RELAXED);
	}
	s.max_bytes = verbs->max_bytes;
	s.failed_deregs = __atomic_load_n(&verbs->failed_deregs, __ATOMIC_RELAXED);
	return results_out(ret_stats, &s, sizeof(s));
}
