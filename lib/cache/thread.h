/* SPDX-License-Identifier: MIT */
/*
 * The calling thread's record of pins (lib/cache/pin.h), found through TLS.
 *
 * Records, their slots and the registry lie in memory that fork wipes. So a child has no threads,
 * no pins and no tables, however it was forked, and a hit need not check for that: a record that
 * was wiped walks no table, so the lookup takes the slow path, which asks whether the cache is
 * alive.
 */
#ifndef INVLOCK_LIB_CACHE_THREAD_H
#define INVLOCK_LIB_CACHE_THREAD_H

#include "pin.h"

extern struct pin_registry *thread_registry;	/* NULL before the first cache */

/* stands for the record of a thread that has none: it never walks a table */
extern struct pin_thread thread_nobody;

/* never NULL. initial-exec: no call, and no allocation on the first use in a thread */
extern _Thread_local struct pin_thread *thread_self __attribute__((tls_model("initial-exec")));

/*
 * How many caches can be open. Four more than fill whole pages: the first ones are then on the line
 * with what a hit reads of the record, and a process with few caches uses one page of it.
 */
#define THREAD_COUNTERS	4100

/*
 * A thread's hits in one cache, written by the thread alone. The counters lie in front of its
 * record, so @counter is -1 for the first one and -THREAD_COUNTERS for the last.
 */
static inline u64 *thread_counter(struct pin_thread *t, long counter)
{
	return (u64 *)t + counter;
}

/* the record, made or adopted if need be; NULL = out of memory */
struct pin_thread *thread_get(void);

/* an empty slot of it, made if need be; NULL = out of memory */
struct pin_slot *thread_slot(struct pin_thread *self);

/* called before a cache is opened; callers exclude each other */
int thread_prepare(void);

#endif /* INVLOCK_LIB_CACHE_THREAD_H */
