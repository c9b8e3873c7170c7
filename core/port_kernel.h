/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * core/port.h for the Linux kernel. port_wait() is in kmod/core.c.
 *
 * Without the asymmetric barrier: lib/cache/pin.h is not used here.
 */
#ifndef INVLOCK_CORE_PORT_KERNEL_H
#define INVLOCK_CORE_PORT_KERNEL_H

#include <asm/barrier.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/processor.h>
#include <linux/timekeeping.h>
#include <linux/types.h>

#define port_load(p)			READ_ONCE(*(p))
#define port_load_acquire(p)		smp_load_acquire(p)
#define port_store(p, v)		WRITE_ONCE(*(p), v)
#define port_store_release(p, v)	smp_store_release(p, v)

/* every writer of a feed holds its driver's lock here */
#include "port_serial.h"

static inline u64 port_now(void)
{
	return ktime_get_ns();
}

/* Only a fatal signal ends the wait, and only if @killable. */
int port_wait(u32 nr_waits, bool killable);

#define port_relax()			cpu_relax()

#endif /* INVLOCK_CORE_PORT_KERNEL_H */
