/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The seam: everything that core needs from outside, and nothing else.
 *
 * A port defines
 *
 * Types		u8 u32 u64 bool, with true, false and NULL
 *
 * Atomics		on plain, naturally aligned u32, u64 and pointers
 *   port_load(p)		a relaxed load
 *   port_load_acquire(p)
 *   port_store(p, v)		a relaxed store
 *   port_store_release(p, v)
 *   port_fetch_add(p, v)	an RMW with full ordering; the value before
 *   port_cmpxchg(p, old, new)	an RMW with full ordering; the value before
 *				port_serial.h has both without atomics, for a port
 *				whose writers exclude each other by a lock
 *
 * The asymmetric barrier, for the pins (lib/cache/pin.h); not needed by BPF and the kernel
 *   port_light_barrier()	orders a store before a later load, if another
 *				thread runs port_heavy_barrier() between them
 *   port_heavy_barrier()	the expensive half; false = it could not be done, so
 *				nothing may be freed now
 *
 * Time and waiting, for the section (core/section.h); not needed by BPF and the kernel
 *   port_now()			nanoseconds of a clock that never goes back
 *   port_wait(n, killable)	the nth wait in a row: first spin, then sleep, never
 *				more than a millisecond; -EINTR when a signal came
 *				and the caller wants to know, else 0
 *   port_relax()		one turn of a spin
 *
 * Errors		EINVAL EBUSY EINTR EAGAIN ENOSPC EPROTO EPROTONOSUPPORT
 *			EOWNERDEAD ENOTRECOVERABLE
 *
 * Others		likely(x) unlikely(x)
 *
 * core includes no other header than these and its own.
 */
#ifndef INVLOCK_CORE_PORT_H
#define INVLOCK_CORE_PORT_H

#if defined(INVLOCK_PORT_SIM)
#include "port_sim.h"
#elif defined(__KERNEL__)
#include "port_kernel.h"
#elif defined(__bpf__)
#include "port_bpf.h"
#else
#include "port_user.h"
#endif

#endif /* INVLOCK_CORE_PORT_H */
