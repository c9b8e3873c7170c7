/* SPDX-License-Identifier: MIT */
/*
 * The cache: it keeps registrations of live memory as long as they are valid.
 *
 *	struct invlock_pin pin;
 *
 *	err = invlock_cache_get(cache, buf, len, 0, &pin);
 *	if (!err) {
 *		use pin.handle; it covers [pin.addr, pin.addr + pin.len), and so buf
 *		invlock_cache_put(&pin);	on any thread, when the device is done
 *	} else {
 *		work without a registration
 *	}
 *
 * A hit takes no lock. It writes to memory that threads share only once for each round of
 * the search for regions to evict. The program's reg() and dereg() are called with no lock
 * of the library held, and never from inside a call that unmaps memory. What they may do is
 * said at the end of this header.
 */
#ifndef INVLOCK_CACHE_H
#define INVLOCK_CACHE_H

#include <invlock/mm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct invlock_cache;

/**
 * struct invlock_cache_ops - how to register memory
 * @reg: registers [addr, addr + len), which is whole pages, and writes the registration's
 *	handle. It may fail with any -errno, which the get then returns; after -ENOMEM the
 *	cache makes room and calls it once more. It is not cancelled, and must return: if it
 *	throws an exception or ends its thread, the process is aborted with a sentence; after a
 *	longjmp() out of it the cache cannot be used, nor closed.
 * @dereg: undoes it. Each successful reg() or reg_read() is followed by exactly one dereg(), on
 *	any thread, when no pin is left. It must not fail, and it is not cancelled either.
 */
struct invlock_cache_ops {
	int (*reg)(void *ctx, void *addr, size_t len, uint64_t *ret_handle);
	void (*dereg)(void *ctx, void *addr, size_t len, uint64_t handle);
};

/*
 * Dead entries are deregistered by gets that register, and, while there are none, by the reaper:
 * one thread of the library, "invlock-reaper", for all caches of the process. It runs from the
 * first open to the last close, blocks all signals, and makes no system call of its own but
 * futex(). It stops when the process begins to exit. A program that must have no other thread, or
 * that reaps in its own loop (invlock_cache_fd()), opens its caches with INVLOCK_CACHE_NO_REAPER.
 */
#define INVLOCK_CACHE_REAPER	1u	/* the default; may be given explicitly */
#define INVLOCK_CACHE_NO_REAPER	2u	/* no thread of the library looks after this cache */

/**
 * struct invlock_cache_options - a cache's properties
 * @size: sizeof(struct invlock_cache_options)
 * @flags: INVLOCK_CACHE_*
 * @ops: how to register, copied
 * @ctx: passed to @ops
 * @need: mask of kinds that the mm must see; 0 = INVLOCK_KINDS_DEFAULT; not asked of the
 *	manual monitor
 * @max_entries: registrations, dead ones included; 0 = 131072, at most 2^24
 * @max_bytes: registered at once, dead ones included; 0 = no limit. A cache whose
 *	registrations are charged to RLIMIT_MEMLOCK passes what it may use of it.
 * @granule: a registration is extended to multiples of this; if that cannot be registered, it
 *	covers the request's pages alone. A power of two, at least a page; 0 = a page
 * @rounds: registrations undone before a get gives up; 0 = 64
 * @time_ns: the same in wall time; 0 = one second
 * @reap_ms: how often dead entries are looked for while no get registers; 0 = 50
 * @reg_read: NULL, or as ops.reg, for a device that will only read the memory, which may then be
 *	read-only: called for a get with INVLOCK_GET_READ. What it registered is never the
 *	answer to a get without that flag. NULL: ops.reg is called for these gets, too.
 * @reg_key: NULL, or as ops.reg, for invlock_cache_get_key(), whose key it receives. A cache that
 *	has it may be without ops.reg: then each get needs a key.
 * @max_merged: 0 = registrations are not merged. Otherwise a miss registers its range together with
 *	the registrations that overlap or adjoin it, which it replaces, as long as all of it is at
 *	most this many bytes; at least a page. Only registrations for the same gets are merged:
 *	never those of two keys, nor of reg_read() and reg(). A registration that is in use stays
 *	until its pins are put. What cannot be registered in one piece is not merged. A buffer
 *	that grows piece by piece is registered again for each piece, so the larger this is, the
 *	more that costs.
 */
struct invlock_cache_options {
	size_t size;
	unsigned int flags;
	struct invlock_cache_ops ops;
	void *ctx;
	uint64_t need;
	unsigned int max_entries;
	uint64_t max_bytes;
	size_t granule;
	unsigned int rounds;
	uint64_t time_ns;
	unsigned int reap_ms;
	int (*reg_read)(void *ctx, void *addr, size_t len, uint64_t *ret_handle);
	int (*reg_key)(void *ctx, void *addr, size_t len, uint64_t key, uint64_t *ret_handle);
	uint64_t max_merged;
};

/**
 * struct invlock_pin - a registration in use
 * @addr: its first byte
 * @len: its bytes
 * @handle: as reg() returned it
 * Others: private. A pin may be copied, but is put once.
 */
struct invlock_pin {
	void *addr;
	size_t len;
	uint64_t handle;
	struct invlock_cache *cache;
	void *slot;
	uint64_t ticket;
};

/**
 * invlock_cache_open() - open a cache
 * @mm: the cache takes a reference
 * @options: must have ops.dereg, and ops.reg or reg_key
 * @ret_cache: written on success only
 * @why: NULL, or filled with the reason of an error
 *
 * Context: may sleep, allocates.
 * Return: 0; -EINVAL for bad options; -E2BIG for a field that this version does not know;
 * -EOPNOTSUPP when the mm's monitor does not see a kind in options->need, or may miss one on this
 * kernel; -EMFILE when 4100 caches or too many files are open; -EAGAIN when the reaper does not
 * start; -ENOMEM; -EOWNERDEAD in a forked child. Since: 0.1
 */
int invlock_cache_open(struct invlock_mm *mm, const struct invlock_cache_options *options,
		       struct invlock_cache **ret_cache, struct invlock_why *why);

/**
 * invlock_cache_close() - deregister everything and free the cache
 * @cache: the cache; NULL is nothing
 *
 * Waits for the reaper. In a forked child it frees the copy and calls no dereg(): the
 * registrations are the parent's.
 * Context: may sleep; no other call on @cache may run. Calls dereg().
 * Return: 0; -EBUSY while a pin is held; -EDEADLK in a callback of this cache. After an error the
 * cache goes on as before. Since: 0.1
 */
int invlock_cache_close(struct invlock_cache *cache);

#define INVLOCK_GET_BYPASS	1u	/* register for this pin alone and keep nothing */
#define INVLOCK_GET_CACHED	2u	/* return a hit or -ENOENT, never register or wait */
#define INVLOCK_GET_READ	4u	/* the device will only read the memory */

/**
 * invlock_cache_get() - get a valid registration that covers [addr, addr + len)
 * @cache: the cache
 * @addr: need not be aligned
 * @len: bytes, not 0
 * @flags: INVLOCK_GET_*
 * @ret_pin: written on success only
 *
 * Valid means that no change which happened before this call made the registration stale.
 * It is not deregistered before the pin is put. A change after this call is the caller's own
 * race with its device, as it would be without a cache.
 *
 * Without INVLOCK_GET_READ the registration is one of reg(), for a device that reads and writes.
 * With it, it is one of reg() that is there already or one of reg_read(). So memory that was first
 * read and is then written by the device has two registrations, until the first is evicted.
 *
 * A miss looks at what is mapped there. Memory that can change without the monitor seeing it is
 * refused, wherever it lies in the range. docs/monitors.md lists what each monitor refuses,
 * invlock_mm_explain() says in a sentence why a range is refused, and the statistics count the
 * causes.
 *
 * Context: a hit waits only while the monitor cannot tell whether it is valid, up to time_ns; a
 * miss may sleep, allocates, calls reg() and perhaps dereg(). If there is no room, it waits up to
 * time_ns for what other threads are deregistering, or registering for the same memory. Not a
 * cancellation point.
 * Not in a signal handler; a signal handler may change the map during any call.
 * Return: 0; -EINVAL for NULL, also as @addr (and all of the first page of memory), an empty
 * range, one that wraps, unknown flags; -ENOENT for INVLOCK_GET_CACHED; -EMEDIUMTYPE for memory
 * that the monitor refuses; -EFAULT when nothing is mapped in a part of it, from a monitor that
 * looks, or from reg(); -ENOSPC when the limits are reached and every entry is pinned or being
 * registered; -EBUSY when the map changed too often meanwhile; -EOWNERDEAD in a forked child;
 * -ENOTRECOVERABLE when the monitor can no longer tell what changes; -ENOMEM; whatever reg()
 * returned. Nothing is kept on error: use the memory unregistered. Since: 0.1
 */
int invlock_cache_get(struct invlock_cache *cache, const void *addr, size_t len,
		      unsigned int flags, struct invlock_pin *ret_pin)
	INVLOCK_ONLY_ADDRESS(2);

/**
 * invlock_cache_get_key() - get a registration that was made for a key
 * @cache: the cache; its options have a reg_key
 * @addr: need not be aligned
 * @len: bytes, not 0
 * @flags: 0, INVLOCK_GET_BYPASS or INVLOCK_GET_CACHED
 * @key: any number; what differs between two registrations of the same memory, such as its access
 *	rights, its protection domain or its device
 * @ret_pin: written on success only
 *
 * The registration is one that reg_key() made for the same key, never another. So one cache, with
 * one set of limits, serves all keys. All else is as for invlock_cache_get().
 *
 * Context: as invlock_cache_get(); a miss calls reg_key().
 * Return: as invlock_cache_get(); -EINVAL also when the cache has no reg_key. Since: 0.1
 */
int invlock_cache_get_key(struct invlock_cache *cache, const void *addr, size_t len,
			  unsigned int flags, uint64_t key, struct invlock_pin *ret_pin)
	INVLOCK_ONLY_ADDRESS(2);

/**
 * invlock_cache_put() - give a registration back, when the device is done
 * @pin: from invlock_cache_get(), on whatever thread
 *
 * Context: never sleeps, except for a bypass pin, which calls dereg().
 * Return: 0; -EINVAL for NULL, or a pin that was put already; -EOWNERDEAD in a forked
 * child. Since: 0.1
 */
int invlock_cache_put(struct invlock_pin *pin);

/**
 * invlock_cache_drop() - drop every registration that overlaps a range
 * @cache: the cache
 * @addr: first byte
 * @len: bytes, not 0
 *
 * Entries that are not pinned are deregistered when this returns, also those that another thread
 * was deregistering, unless this is called in a callback. The others are deregistered after their
 * last pin was put; an entry at which a get on another thread just looks is one of them.
 * Context: may sleep, calls dereg(), waits for others that call it. Return: the number of entries
 * dropped; -EINVAL for a bad range; -EOWNERDEAD in a forked child. Since: 0.1
 */
int invlock_cache_drop(struct invlock_cache *cache, const void *addr, size_t len)
	INVLOCK_ONLY_ADDRESS(2);

/**
 * invlock_cache_reap() - deregister what is dead and not in use
 * @cache: the cache
 *
 * To be called when invlock_cache_fd() is readable, for a cache without a reaper.
 * Context: may sleep, calls dereg(). Return: the number of entries deregistered; -EINVAL
 * for NULL; -EOWNERDEAD in a forked child. Since: 0.1
 */
int invlock_cache_reap(struct invlock_cache *cache);

/**
 * invlock_cache_fd() - get the descriptor that says when to reap
 * @cache: the cache
 *
 * Return: a file descriptor of the cache, readable (POLLIN) when it is time for
 * invlock_cache_reap(), which makes it unreadable again; -EINVAL for NULL; -EBADF when the cache
 * has a reaper, and so needs none, or when the program has closed it; -EOWNERDEAD in a forked
 * child. Since: 0.1
 */
int invlock_cache_fd(const struct invlock_cache *cache);

/**
 * struct invlock_cache_stats - what happened, by cause
 * @size: sizeof(struct invlock_cache_stats), set by the caller
 * @entries: registered now, and valid as far as the cache knows
 * @dead: stale or dropped, not yet deregistered
 * @bytes: registered now, dead ones included
 * @hits: gets that found a valid entry, also one that was registered while they registered theirs
 * @misses: gets whose own registration became an entry
 * @bypassed: gets with INVLOCK_GET_BYPASS
 * @stale: entries found to be stale
 * @collided: registrations undone because the map changed meanwhile
 * @evicted: entries that made room
 * @refused: gets that failed, all causes
 * @refused_full: of these, -ENOSPC
 * @refused_busy: of these, -EBUSY
 * @refused_reg: of these, all others: errors of reg() or of the monitor
 * @refused_memory: of these, -EMEDIUMTYPE: memory that could change without the monitor seeing it
 * @refused_private: of refused_memory, private mappings of files
 * @refused_shared: of refused_memory, shared memory
 * @refused_dax: of refused_memory, files mapped with DAX
 * @refused_foreign: of refused_memory, mappings of drivers, sockets and the kernel
 * @reg_calls: calls of reg() that succeeded
 * @dereg_calls: calls of dereg()
 * @merged: entries that a larger one replaced: see options.max_merged
 */
struct invlock_cache_stats {
	size_t size;
	uint64_t entries;
	uint64_t dead;
	uint64_t bytes;
	uint64_t hits;
	uint64_t misses;
	uint64_t bypassed;
	uint64_t stale;
	uint64_t collided;
	uint64_t evicted;
	uint64_t refused;
	uint64_t refused_full;
	uint64_t refused_busy;
	uint64_t refused_reg;
	uint64_t reg_calls;
	uint64_t dereg_calls;
	uint64_t refused_memory;
	uint64_t refused_private;
	uint64_t refused_shared;
	uint64_t refused_dax;
	uint64_t refused_foreign;
	uint64_t merged;
};

/**
 * invlock_cache_stats() - read the statistics of a cache
 * @cache: the cache
 * @ret_stats: its size field is set by the caller; filled up to that size
 *
 * Context: takes the cache's lock for a moment. Return: 0; -EINVAL for NULL or a size below
 * the first version's; -EOWNERDEAD in a forked child. Since: 0.1
 */
int invlock_cache_stats(const struct invlock_cache *cache, struct invlock_cache_stats *ret_stats);

#define INVLOCK_ENTRY_DEAD	1u	/* stale, dropped or evicted; not yet deregistered */
#define INVLOCK_ENTRY_PINNED	2u	/* in use by a thread, or just looked at by a get */
#define INVLOCK_ENTRY_READ	4u	/* registered by reg_read() */
#define INVLOCK_ENTRY_KEYED	8u	/* registered by reg_key(), for @key */

/**
 * struct invlock_cache_entry - a registration, as invlock_cache_list() shows it
 * @addr: its first byte
 * @len: its bytes
 * @handle: as reg() returned it
 * @key: with INVLOCK_ENTRY_KEYED
 * @flags: INVLOCK_ENTRY_*
 */
struct invlock_cache_entry {
	void *addr;
	size_t len;
	uint64_t handle;
	uint64_t key;
	unsigned int flags;
	unsigned int reserved;
};

/**
 * invlock_cache_list() - list what is registered, to debug
 * @cache: the cache
 * @ret_entries: filled in no particular order
 * @nr: how many entries there is room for; 0 = only count
 *
 * A registration without INVLOCK_ENTRY_DEAD may be stale all the same, if nobody has looked since.
 * Context: takes the cache's lock for a time that grows with the number of entries.
 * Return: the number of registrations, which may be more than @nr; -EINVAL for NULL; -EOWNERDEAD
 * in a forked child. Since: 0.1
 */
int invlock_cache_list(struct invlock_cache *cache, struct invlock_cache_entry *ret_entries,
		       unsigned int nr);

#ifdef __cplusplus
}
#endif

/*
 * What reg() and dereg() may do. reg() runs on the thread whose get misses. dereg() runs on any
 * thread that gets, drops, reaps, puts a bypass pin or closes, or on the reaper's. Other threads go
 * on meanwhile. Both may allocate, block, fork, unmap memory, also what is being registered, and
 * call the library: open and close mms and other caches, and all calls on their own cache but its
 * close. A get of memory that is not registered yet, also of the range that is being registered,
 * calls reg() again: the program has to end that recursion.
 *
 * They must not
 * - close their own cache, which would wait for itself, or free what is in use;
 * - call into their own cache when it is its close that calls dereg();
 * - wait for a thread that closes this cache, nor take a lock that some thread holds while it
 *   calls the cache: that thread may be waiting for them, or be the one that they run on;
 * - return in a child that they have forked: it ends with exec or _exit().
 */

#endif /* INVLOCK_CACHE_H */
