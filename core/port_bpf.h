/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * core/port.h for a BPF program: the write side alone.
 *
 * The feed's geometry is the constants of <invlock/feed.h>, put into struct invlock where
 * the compiler can see them: the verifier must find a constant mask at every index.
 */
#ifndef INVLOCK_CORE_PORT_BPF_H
#define INVLOCK_CORE_PORT_BPF_H

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef _Bool bool;

#define true	1
#define false	0
#define NULL	((void *)0)

/* the verifier accepts a pointer to a struct on the stack only where it sees its content */
#define inline	inline __attribute__((always_inline))

#define port_load(p)			(*(volatile __typeof__(*(p)) *)(p))
#define port_store(p, v)		(*(volatile __typeof__(*(p)) *)(p) = (v))

/*
 * BPF of this generation has no acquire and no release, but its loads and stores become the
 * machine's own, one for one and in this order. On x86 these are both, and every atomic operation
 * is a full barrier there.
 */
#if defined(__TARGET_ARCH_x86)
#define port_load_acquire(p)		port_load(p)
#define port_store_release(p, v)	port_store(p, v)
#define port_fetch_add(p, v)		__sync_fetch_and_add(p, v)
#define port_fetch_or(p, v)		__sync_fetch_and_or(p, v)
#define port_fetch_and(p, v)		__sync_fetch_and_and(p, v)
#define port_full_barrier()		((void)0)	/* only ever follows an atomic operation */

/*
 * arm64 reorders loads and stores. In BPF only an atomic operation that fetches is a full barrier,
 * and the compiler drops a fetch whose result is not used, so each result is used here.
 */
#elif defined(__TARGET_ARCH_arm64)
#define port_used(value)						\
({									\
	__typeof__(value) __used = (value);				\
									\
	__asm__ volatile("" : "+r"(__used) : : "memory");		\
	__used;								\
})
#define port_fetch_add(p, v)		port_used(__sync_fetch_and_add(p, v))
#define port_fetch_or(p, v)		port_used(__sync_fetch_and_or(p, v))
#define port_fetch_and(p, v)		port_used(__sync_fetch_and_and(p, v))

static inline void port_full_barrier(void)
{
	u64 nothing = 0;

	port_fetch_add(&nothing, 1);
}

#define port_load_acquire(p)						\
({									\
	__typeof__(*(p)) __loaded = port_load(p);			\
									\
	port_full_barrier();						\
	__loaded;							\
})
#define port_store_release(p, v)					\
do {									\
	port_full_barrier();						\
	port_store(p, v);						\
} while (0)
#else
#error "port_bpf.h: what orders loads and stores on this machine?"
#endif

#define port_cmpxchg(p, old, new)	__sync_val_compare_and_swap(p, old, new)

/* libbpf has them, too, since 1.6 */
#ifndef likely
#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)
#endif

#endif /* INVLOCK_CORE_PORT_BPF_H */
