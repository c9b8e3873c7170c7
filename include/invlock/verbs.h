/* SPDX-License-Identifier: MIT */
/*
 * The adapter for RDMA verbs: it keeps memory regions of any memory as long as they are valid.
 *
 *	struct invlock_verbs_pin pin;
 *
 *	err = invlock_verbs_get(verbs, pd, buf, len, 0, &pin);
 *	if (!err) {
 *		post requests with pin.lkey, or give pin.rkey to a peer
 *		...
 *		invlock_verbs_put(&pin);	when the device and the peer are done
 *	}
 *
 * One adapter serves all protection domains of the process, so also several devices, and all
 * access rights, with one set of limits. A region that was made for one domain and some rights
 * never serves another domain or other rights.
 *
 * A pin is for remote use, too: as long as it is held, the region is not deregistered, and a peer
 * may use its rkey. After the last put the rkey may become invalid at any time, or work for long:
 * to take a peer's access away, call invlock_cache_drop() for the range after the put. If the
 * program changes the memory map under a pin, peers still reach the old pages, as they would
 * without a cache.
 *
 * What is not for a cache is refused with -EINVAL, and invlock_verbs_explain() says why: regions
 * with IBV_ACCESS_ON_DEMAND, which the kernel itself keeps valid; memory windows, which would
 * outlive the region under them; and IBV_ACCESS_ZERO_BASED. On iWARP, memory that an RDMA read is
 * to fill needs IBV_ACCESS_REMOTE_WRITE.
 *
 * Before a program frees a protection domain it calls invlock_verbs_remove_pd(). If it does not,
 * and regions of the domain are kept, ibv_dealloc_pd() fails with EBUSY and nothing is lost. If
 * none is kept, ibv_dealloc_pd() succeeds, and the adapter would use a domain that no longer
 * exists.
 *
 * When a device goes away (IBV_EVENT_DEVICE_FATAL), registrations fail with what the driver says,
 * mostly -EIO, hits go on, and requests end with errors. The program then removes the domains of
 * the device with invlock_verbs_remove_pd(), as it destroys its queue pairs.
 *
 * A forked child cannot use the adapter: each call but the close answers -EOWNERDEAD there. The
 * parent's regions stay valid; before Linux 5.12 that takes ibv_fork_init().
 */
#ifndef INVLOCK_VERBS_H
#define INVLOCK_VERBS_H

#include <infiniband/verbs.h>
#include <invlock/cache.h>

#ifdef __cplusplus
extern "C" {
#endif

struct invlock_verbs;

#define INVLOCK_VERBS_REAPER	1u	/* the default; may be given explicitly */
#define INVLOCK_VERBS_NO_REAPER	2u	/* as INVLOCK_CACHE_NO_REAPER */

/**
 * struct invlock_verbs_options - an adapter's properties
 * @size: sizeof(struct invlock_verbs_options)
 * @flags: INVLOCK_VERBS_*
 * @access: the rights of a get that names none: IBV_ACCESS_*; 0 = IBV_ACCESS_LOCAL_WRITE
 * @max_entries: as in struct invlock_cache_options
 * @max_bytes: registered at once; 0 = RLIMIT_MEMLOCK as it stands at the open, or no limit for a
 *	process with CAP_IPC_LOCK
 * @granule: as in struct invlock_cache_options
 * @need: as in struct invlock_cache_options
 * @rounds: as in struct invlock_cache_options
 * @time_ns: as in struct invlock_cache_options
 * @reap_ms: as in struct invlock_cache_options
 */
struct invlock_verbs_options {
	size_t size;
	unsigned int flags;
	unsigned int access;
	unsigned int max_entries;
	unsigned int rounds;
	uint64_t max_bytes;
	size_t granule;
	uint64_t need;
	uint64_t time_ns;
	unsigned int reap_ms;
	unsigned int reserved;
};

/**
 * struct invlock_verbs_pin - a memory region in use
 * @addr: the first byte of the region
 * @len: its bytes
 * @mr: the region, which only the adapter deregisters
 * @lkey: mr->lkey
 * @rkey: mr->rkey
 * Others: private. A pin may be copied, but is put once.
 */
struct invlock_verbs_pin {
	void *addr;
	size_t len;
	struct ibv_mr *mr;
	uint32_t lkey;
	uint32_t rkey;
	struct invlock_pin pin;
};

/**
 * invlock_verbs_open() - open an adapter
 * @mm: the adapter takes a reference
 * @options: NULL = the defaults
 * @ret_verbs: written on success only
 * @why: NULL, or filled with the reason of an error
 *
 * Context: may sleep, allocates.
 * Return: 0; -EINVAL for NULL, bad options or access rights that are refused; all others as
 * invlock_cache_open(). Since: 0.1
 */
int invlock_verbs_open(struct invlock_mm *mm, const struct invlock_verbs_options *options,
		       struct invlock_verbs **ret_verbs, struct invlock_why *why);

/**
 * invlock_verbs_close() - deregister everything and free the adapter
 * @verbs: the adapter; NULL is nothing
 *
 * To be called before the protection domains are freed. In a forked child it frees the copy, and
 * deregisters nothing.
 * Context: may sleep; no other call on @verbs may run. Return: 0; -EBUSY while a pin is held, and
 * then the adapter goes on as before. Since: 0.1
 */
int invlock_verbs_close(struct invlock_verbs *verbs);

/**
 * invlock_verbs_get() - get a valid region that covers [addr, addr + len)
 * @verbs: the adapter
 * @pd: the protection domain; the adapter knows it from its first get on
 * @addr: need not be aligned
 * @len: bytes, not 0
 * @access: IBV_ACCESS_*; 0 = the options' access
 * @ret_pin: written on success only
 *
 * Context: as invlock_cache_get(); a miss calls ibv_reg_mr().
 * Return: 0; -EINVAL for NULL, a bad range, or access rights that are refused; -EMFILE when 256
 * domains are known; -ENOMEM when RLIMIT_MEMLOCK or the device's memory is used up; all others as
 * invlock_cache_get(), or as ibv_reg_mr() said. invlock_verbs_explain() makes a sentence of it.
 * Since: 0.1
 */
int invlock_verbs_get(struct invlock_verbs *verbs, struct ibv_pd *pd, const void *addr, size_t len,
		      unsigned int access, struct invlock_verbs_pin *ret_pin)
	INVLOCK_ONLY_ADDRESS(3);

/**
 * invlock_verbs_put() - give a region back, when the device and all peers are done with it
 * @pin: from invlock_verbs_get(), on whatever thread
 *
 * Context: never sleeps. Return: as invlock_cache_put(). Since: 0.1
 */
int invlock_verbs_put(struct invlock_verbs_pin *pin);

/**
 * invlock_verbs_explain() - say why a get failed
 * @verbs: the adapter
 * @addr: as in the get
 * @len: as in the get
 * @access: as in the get
 * @err: what the get returned
 * @why: filled with a sentence
 *
 * Context: may sleep. Return: @err; -EINVAL for NULL. Since: 0.1
 */
int invlock_verbs_explain(struct invlock_verbs *verbs, const void *addr, size_t len,
			  unsigned int access, int err, struct invlock_why *why)
	INVLOCK_ONLY_ADDRESS(2);

/**
 * invlock_verbs_remove_pd() - forget a protection domain, which is about to be freed
 * @verbs: the adapter
 * @pd: the domain; one that the adapter does not know is nothing
 *
 * Deregisters all regions of the domain, and perhaps regions of other domains that overlap them,
 * which are then registered again when they are needed.
 * Context: may sleep; no get of this domain may run, gets of others go on. Not a cancellation
 * point. Return: 0; -EBUSY if for a second no region of the domain went that was left: a pin of it
 * is held, or the kernel refuses membarrier(), or the driver takes so long: put pins and call
 * again; -EINVAL for NULL; -EOWNERDEAD in a forked child; -ENOMEM. Since: 0.1
 */
int invlock_verbs_remove_pd(struct invlock_verbs *verbs, struct ibv_pd *pd);

/**
 * invlock_verbs_cache() - the cache of an adapter, for statistics, drops, reaping and lists
 * @verbs: the adapter
 *
 * Return: the cache; NULL for NULL. Since: 0.1
 */
struct invlock_cache *invlock_verbs_cache(const struct invlock_verbs *verbs);

/**
 * struct invlock_verbs_stats - what an adapter holds; invlock_cache_stats() has the rest
 * @size: sizeof(struct invlock_verbs_stats), set by the caller
 * @domains: protection domains that it knows
 * @regions: memory regions that exist now
 * @max_bytes: the limit on registered memory; 0 = none
 * @failed_deregs: regions that the driver did not deregister
 */
struct invlock_verbs_stats {
	size_t size;
	uint64_t domains;
	uint64_t regions;
	uint64_t max_bytes;
	uint64_t failed_deregs;
};

/**
 * invlock_verbs_stats() - read what an adapter holds
 * @verbs: the adapter
 * @ret_stats: its size field is set by the caller
 *
 * Context: any. Return: 0; -EINVAL for NULL or a size that is too small; -EOWNERDEAD in a forked
 * child. Since: 0.1
 */
int invlock_verbs_stats(const struct invlock_verbs *verbs, struct invlock_verbs_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif /* INVLOCK_VERBS_H */
