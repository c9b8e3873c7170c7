/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * core/port.h for the Linux kernel. port_wait() is in kmod/core.c.
 *
 * Without the asymmetric barrier: core/pin.h is not used here.
 */
#ifndef INVLOCK_CORE_PORT_KERNEL_H
#define INVLOCK_CORE_PORT_KERNEL_H

#include <linux/atomic.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/processor.h>
#include <linux/timekeeping.h>
#include <linux/types.h>

#define port_load(p)			READ_ONCE(*(p))
#define port_load_acquire(p)		smp_load_acquire(p)
#define port_store(p, v)		WRITE_ONCE(*(p), v)
#define port_store_release(p, v)	smp_store_release(p, v)
#define port_cmpxchg(p, old, new)	cmpxchg(p, old, new)

/* every counter in a feed is a u64, which lies in memory as atomic64_t does */
static inline u64 port_fetch_add(u64 *p, u64 v)
{
	return (u64)atomic64_fetch_add((s64)v, (atomic64_t *)p);
}

static inline u64 port_now(void)
{
	return ktime_get_ns();
}

/* @killable: a signal that kills ends the wait, no other one does */
int port_wait(u32 nr_waits, bool killable);

#define port_relax()			cpu_relax()

#endif /* INVLOCK_CORE_PORT_KERNEL_H */
