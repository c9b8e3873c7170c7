/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* core/port.h for a Linux process. The functions are in lib/port.c. */
#ifndef INVLOCK_CORE_PORT_USER_H
#define INVLOCK_CORE_PORT_USER_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;

#define port_load(p)			__atomic_load_n(p, __ATOMIC_RELAXED)
#define port_load_acquire(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define port_store(p, v)		__atomic_store_n(p, v, __ATOMIC_RELAXED)
#define port_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define port_fetch_add(p, v)		__atomic_fetch_add(p, v, __ATOMIC_SEQ_CST)
#define port_cmpxchg(p, old, new)					\
({									\
	__typeof__(*(p)) __seen = (old);				\
	__atomic_compare_exchange_n(p, &__seen, new, false,		\
				    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
	__seen;								\
})

/* true = membarrier() works, so the light half is a compiler barrier */
extern bool port_barrier_is_light __attribute__((visibility("hidden")));

static inline void port_light_barrier(void)
{
	if (__builtin_expect(port_barrier_is_light, true))
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	else
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool port_heavy_barrier(void);
u64 port_now(void);
int port_wait(u32 nr_waits, bool interruptible);

static inline void port_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#endif /* INVLOCK_CORE_PORT_USER_H */
