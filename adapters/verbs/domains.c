// SPDX-License-Identifier: MIT
/* The protection domains of an adapter, and how its cache registers in one of them. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "adapter.h"

/*
 * A get of another domain pins a region for the moment in which it compares the keys, and its
 * thread may be preempted there. If nothing goes for so long, in so many looks, it is in use.
 */
#define PATIENCE_NS	1000000000
#define LOOKS		20
#define MIN_WAIT_NS	100000	/* after the first look; doubled from look to look */
#define MAX_WAIT_NS	10000000
#define LIST		64	/* entries of the cache that one list holds */

static bool is_at(const struct invlock_verbs *verbs, unsigned int place, const struct ibv_pd *pd)
{
	return __atomic_load_n(&verbs->domains[place].pd, __ATOMIC_ACQUIRE) == pd;
}

/* Return: the place, or -ENOENT */
static int find(const struct invlock_verbs *verbs, const struct ibv_pd *pd)
{
	/* acquire: places are filled in before they are counted; pairs with add_locked() */
	unsigned int nr = __atomic_load_n(&verbs->nr_domains, __ATOMIC_ACQUIRE);

	for (unsigned int i = 0; i < nr; i++)
		if (is_at(verbs, i, pd))
			return (int)i;
	return -ENOENT;
}

/* Locks: held */
static int add_locked(struct invlock_verbs *verbs, struct ibv_pd *pd)
{
	int place = find(verbs, pd);

	/* another thread has added it meanwhile, and may be registering in it */
	if (place >= 0)
		return place;
	place = find(verbs, NULL);
	if (place < 0) {
		if (verbs->nr_domains == VERBS_DOMAINS)
			return -EMFILE;
		place = (int)verbs->nr_domains;
	}
	__atomic_store_n(&verbs->domains[place].pd, pd, __ATOMIC_RELEASE);
	if ((unsigned int)place == verbs->nr_domains)
		/* release: pairs with find() */
		__atomic_store_n(&verbs->nr_domains, place + 1, __ATOMIC_RELEASE);
	return place;
}

int verbs_find_domain(struct invlock_verbs *verbs, struct ibv_pd *pd)
{
	int place = find(verbs, pd);

	if (place >= 0)
		return place;
	pthread_mutex_lock(&verbs->lock);
	place = add_locked(verbs, pd);
	pthread_mutex_unlock(&verbs->lock);
	return place;
}

int verbs_register(void *ctx, void *addr, size_t len, uint64_t key, uint64_t *ret_handle)
{
	struct invlock_verbs *verbs = ctx;
	struct domain *domain = &verbs->domains[key >> 32];
	struct ibv_mr *mr;

	/* before the region exists: a thread that removes the domain then waits for it */
	__atomic_fetch_add(&domain->nr_regions, 1, __ATOMIC_RELAXED);
	errno = 0;
	mr = ibv_reg_mr(domain->pd, addr, len, (unsigned int)key);
	if (!mr) {
		__atomic_fetch_sub(&domain->nr_regions, 1, __ATOMIC_RELAXED);
		/* some drivers set no errno */
		return errno > 0 ? -errno : -ENOMEM;
	}
	*ret_handle = (uintptr_t)mr;
	return 0;
}

void verbs_deregister(void *ctx, __attribute__((unused)) void *addr,
		      __attribute__((unused)) size_t len, uint64_t handle)
{
	struct invlock_verbs *verbs = ctx;
	struct ibv_mr *mr = (struct ibv_mr *)(uintptr_t)handle;
	int place = find(verbs, mr->pd);

	/* A device that is gone has no region left, whatever the driver says. */
	if (ibv_dereg_mr(mr))
		__atomic_fetch_add(&verbs->failed_deregs, 1, __ATOMIC_RELAXED);
	if (place >= 0)
		/* release: the region is gone; pairs with invlock_verbs_remove_pd() */
		__atomic_fetch_sub(&verbs->domains[place].nr_regions, 1, __ATOMIC_RELEASE);
}

static void drop_entry(struct invlock_verbs *verbs, const struct invlock_cache_entry *e,
		       unsigned int place)
{
	if (e->flags & INVLOCK_ENTRY_KEYED && e->key >> 32 == place &&
	    !(e->flags & INVLOCK_ENTRY_DEAD))
		invlock_cache_drop(verbs->cache, e->addr, e->len);
}

/* Drops what is registered in the domain. Return: 0 or -errno */
static int drop_domain(struct invlock_verbs *verbs, unsigned int place)
{
	struct invlock_cache_entry *list;
	int room = LIST, nr;

	for (;;) {
		list = calloc(room, sizeof(*list));
		if (!list)
			return -ENOMEM;
		nr = invlock_cache_list(verbs->cache, list, room);
		if (nr <= room)
			break;
		free(list);
		room = nr + LIST;
	}
	for (int i = 0; i < nr; i++)
		drop_entry(verbs, &list[i], place);
	free(list);
	return nr < 0 ? nr : 0;
}

static uint64_t nr_regions(const struct invlock_verbs *verbs, unsigned int place)
{
	/* acquire: the regions are gone; pairs with verbs_deregister() */
	return __atomic_load_n(&verbs->domains[place].nr_regions, __ATOMIC_ACQUIRE);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/*
 * Locks: none, so that a get of a new domain goes on, whose thread may have a pin of this one. So
 * another removal may be faster, and give the place to another domain.
 */
static int deregister_all(struct invlock_verbs *verbs, unsigned int place, const struct ibv_pd *pd)
{
	struct timespec pause = { .tv_nsec = MIN_WAIT_NS };
	uint64_t nr, last = 0, since = 0;
	unsigned int looks = 0;
	int err;

	while ((nr = nr_regions(verbs, place)) && is_at(verbs, place, pd)) {
		if (nr != last) {
			last = nr;
			since = now_ns();
			looks = 0;
		} else if (++looks >= LOOKS && now_ns() - since > PATIENCE_NS) {
			return -EBUSY;
		}
		err = drop_domain(verbs, place);
		if (err)
			return err;
		invlock_cache_reap(verbs->cache);
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < MAX_WAIT_NS)
			pause.tv_nsec *= 2;
	}
	return 0;
}

static int remove_pd(struct invlock_verbs *verbs, const struct ibv_pd *pd)
{
	int place = find(verbs, pd), err;

	if (place < 0)
		return 0;
	err = deregister_all(verbs, place, pd);
	if (err)
		return err;
	pthread_mutex_lock(&verbs->lock);
	if (is_at(verbs, place, pd))
		__atomic_store_n(&verbs->domains[place].pd, NULL, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&verbs->lock);
	return 0;
}

int invlock_verbs_remove_pd(struct invlock_verbs *verbs, struct ibv_pd *pd)
{
	int err, old_state;

	if (!verbs || !pd)
		return -EINVAL;
	err = verbs_alive(verbs);
	if (err)
		return err;
	/* nanosleep() is a cancellation point */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old_state);
	err = remove_pd(verbs, pd);
	pthread_setcancelstate(old_state, NULL);
	return err;
}
