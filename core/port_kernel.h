/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * core/port.h for the Linux kernel, which only writes feeds. So it has nothing here with which
 * readers wait: no asymmetric barrier and no clock.
 */
#ifndef INVLOCK_CORE_PORT_KERNEL_H
#define INVLOCK_CORE_PORT_KERNEL_H

#include <asm/barrier.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/types.h>

#define port_load(p)			READ_ONCE(*(p))
#define port_load_acquire(p)		smp_load_acquire(p)
#define port_store(p, v)		WRITE_ONCE(*(p), v)
#define port_store_release(p, v)	smp_store_release(p, v)

/* every writer of a feed holds its driver's lock here */
#include "port_serial.h"

#endif /* INVLOCK_CORE_PORT_KERNEL_H */
