/* SPDX-License-Identifier: MIT */
/*
 * The reaper: one thread of the library for all caches of the process that want it.
 *
 * It runs as long as such a cache is open, sleeps on memory, and needs no descriptor that a program
 * could close and no system call but futex() that a sandbox could refuse.
 */
#ifndef INVLOCK_LIB_CACHE_REAPER_H
#define INVLOCK_LIB_CACHE_REAPER_H

struct invlock_cache;

/* from now on the reaper looks after this cache; 0 or -errno. Locks: none */
int reaper_add(struct invlock_cache *cache);

/* not any more. Waits while it is at work on the cache. Not in a forked child. Locks: none */
void reaper_remove(struct invlock_cache *cache);

/* there is news: a cache has become active, or was kicked. Context: any */
void reaper_wake(void);

#endif /* INVLOCK_LIB_CACHE_REAPER_H */
