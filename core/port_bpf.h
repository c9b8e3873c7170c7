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
 * machine's own, one for one and in this order, and on x86 these are both.
 */
#ifndef __TARGET_ARCH_x86
#error "port_bpf.h: a plain load and store order nothing on this machine"
#endif
#define port_load_acquire(p)		port_load(p)
#define port_store_release(p, v)	port_store(p, v)

#define port_fetch_add(p, v)		__sync_fetch_and_add(p, v)
#define port_cmpxchg(p, old, new)	__sync_val_compare_and_swap(p, old, new)

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#endif /* INVLOCK_CORE_PORT_BPF_H */
