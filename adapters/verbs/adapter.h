/* SPDX-License-Identifier: MIT */
/*
 * The adapter for RDMA verbs, inside.
 *
 *	adapter.c	open, close, get, put
 *	domains.c	the protection domains, and how the cache registers in one
 *	explain.c	access rights, and sentences about errors
 */
#ifndef INVLOCK_VERBS_ADAPTER_H
#define INVLOCK_VERBS_ADAPTER_H

#include <invlock/verbs.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#define VERBS_DOMAINS	256

struct domain {
	struct ibv_pd *pd;	/* written under verbs.lock, read with acquire; NULL = free */
	uint64_t nr_regions;	/* atomic */
};

struct invlock_verbs {
	struct invlock_cache *cache;		/* constant after open */
	struct invlock_mm *mm;			/* constant; the cache holds the reference */
	unsigned int access;			/* constant */
	bool max_is_memlock;			/* constant: the program named no limit */
	uint64_t max_bytes;			/* constant; 0 = no limit */

	unsigned int nr_domains;		/* places ever taken; as domain.pd */
	struct domain domains[VERBS_DOMAINS];
	uint64_t failed_deregs;			/* atomic */
	pthread_mutex_t lock;			/* guards additions and removals of domains */
};

/* A key of the cache: access rights in the lower half, the place of the domain in the upper. */
static inline uint64_t verbs_key(unsigned int place, unsigned int access)
{
	return (uint64_t)place << 32 | access;
}

/* are these rights for a cache? @why may be NULL. 0 or -EINVAL */
int verbs_check_access(unsigned int access, struct invlock_why *why);

/* Return: the place of the domain, which is added if it is new; -EMFILE */
int verbs_find_domain(struct invlock_verbs *verbs, struct ibv_pd *pd);

/* the cache's reg_key and dereg */
int verbs_register(void *ctx, void *addr, size_t len, uint64_t key, uint64_t *ret_handle);
void verbs_deregister(void *ctx, void *addr, size_t len, uint64_t handle);

/* 0; -EOWNERDEAD in a forked child */
static inline int verbs_alive(const struct invlock_verbs *verbs)
{
	return invlock_mm_alive(verbs->mm) ? 0 : -EOWNERDEAD;
}

#endif /* INVLOCK_VERBS_ADAPTER_H */
