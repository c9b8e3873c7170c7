// SPDX-License-Identifier: MIT
/* The protection domains of an adapter, and how its cache registers in one of them. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "adapter.h"

#define WAIT_NS		100000	/* between two looks at a domain that is being removed */
/*
 * A get of another domain pins a region for the moment in which it compares the keys, and its
 * thread may be preempted there. What stays pinned for so many looks, a second, is in use.
 */
#define LOOKS		10000
#define LIST		64	/* entries of the cache that one list holds */

/* Return: the place, or -ENOENT */
static int find(const struct invlock_verbs *verbs, const struct ibv_pd *pd)
{
	/* acquire: places are filled in before they are counted; pairs with add_locked() */
	unsigned int nr = __atomic_load_n(&verbs->nr_domains, __ATOMIC_ACQUIRE);

	for (unsigned int i = 0; i < nr; i++)
		if (__atomic_load_n(&verbs->domains[i].pd, __ATOMIC_ACQUIRE) == pd)
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

/* Drops what the entry names if it is of the domain. Return: is it, and is it in use? */
static bool drop_entry(struct invlock_verbs *verbs, const struct invlock_cache_entry *e,
		       unsigned int place)
{
	if (!(e->flags & INVLOCK_ENTRY_KEYED) || e->key >> 32 != place)
		return false;
	if (!(e->flags & INVLOCK_ENTRY_DEAD))
		invlock_cache_drop(verbs->cache, e->addr, e->len);
	return e->flags & INVLOCK_ENTRY_PINNED;
}

/* Drops what is registered in the domain. Return: is any of it in use? -errno */
static int drop_domain(struct invlock_verbs *verbs, unsigned int place)
{
	struct invlock_cache_entry *list;
	int room = LIST, nr, pinned = 0;

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
		pinned |= drop_entry(verbs, &list[i], place);
	free(list);
	return nr < 0 ? nr : pinned;
}

static int remove_place(struct invlock_verbs *verbs, unsigned int place)
{
	struct domain *domain = &verbs->domains[place];
	struct timespec pause = { .tv_nsec = WAIT_NS };
	int looks = 0, pinned;

	/*
	 * The reaper may be about to deregister a region that is not in use. Acquire: pairs with
	 * verbs_deregister().
	 */
	while (__atomic_load_n(&domain->nr_regions, __ATOMIC_ACQUIRE)) {
		pinned = drop_domain(verbs, place);
		if (pinned < 0)
			return pinned;
		if (pinned && ++looks == LOOKS)
			return -EBUSY;
		invlock_cache_reap(verbs->cache);
		nanosleep(&pause, NULL);
	}
	__atomic_store_n(&domain->pd, NULL, __ATOMIC_RELEASE);
	return 0;
}

int invlock_verbs_remove_pd(struct invlock_verbs *verbs, struct ibv_pd *pd)
{
	int place, err = 0;

	if (!verbs || !pd)
		return -EINVAL;
	err = verbs_alive(verbs);
	if (err)
		return err;
	pthread_mutex_lock(&verbs->lock);
	place = find(verbs, pd);
	if (place >= 0)
		err = remove_place(verbs, place);
	pthread_mutex_unlock(&verbs->lock);
	return err;
}
