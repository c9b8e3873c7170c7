/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * core/port.h for the explorer of schedules, tests/sim/: each primitive is one step of a
 * coroutine, and a scheduler decides who makes the next step and what a load returns.
 *
 * The weaker orders exist so that tests can weaken a line of core. SIM_FENCED is for what a program
 * does to the map: relaxed, but never before the thread's last full RMW.
 */
#ifndef INVLOCK_CORE_PORT_SIM_H
#define INVLOCK_CORE_PORT_SIM_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;

enum sim_order { SIM_RELAXED, SIM_ACQUIRE, SIM_RELEASE, SIM_ACQ_REL, SIM_FULL,
		 SIM_FENCED };

u64 sim_load(const void *p, u32 size, enum sim_order order);
void sim_store(void *p, u32 size, u64 value, enum sim_order order);
u64 sim_fetch_add(void *p, u32 size, u64 value, enum sim_order order);
u64 sim_cmpxchg(void *p, u32 size, u64 old, u64 value, enum sim_order order);
void sim_light_barrier(void);
bool sim_heavy_barrier(void);
u64 sim_now(void);
int sim_wait(bool interruptible);
void sim_relax(void);

#define SIM_LOAD(p, order)	((__typeof__(*(p)))sim_load(p, sizeof(*(p)), order))
#define SIM_STORE(p, v, order)	sim_store(p, sizeof(*(p)), (u64)(v), order)
#define SIM_FETCH_ADD(p, v, order)					\
	((__typeof__(*(p)))sim_fetch_add(p, sizeof(*(p)), (u64)(v), order))
#define SIM_CMPXCHG(p, old, new, order)					\
	((__typeof__(*(p)))sim_cmpxchg(p, sizeof(*(p)), (u64)(old), (u64)(new), order))

#define port_load(p)			SIM_LOAD(p, SIM_RELAXED)
#define port_load_acquire(p)		SIM_LOAD(p, SIM_ACQUIRE)
#define port_store(p, v)		SIM_STORE(p, v, SIM_RELAXED)
#define port_store_release(p, v)	SIM_STORE(p, v, SIM_RELEASE)
#define port_fetch_add(p, v)		SIM_FETCH_ADD(p, v, SIM_FULL)
#define port_cmpxchg(p, old, new)	SIM_CMPXCHG(p, old, new, SIM_FULL)

#define port_light_barrier()		sim_light_barrier()
#define port_heavy_barrier()		sim_heavy_barrier()
#define port_now()			sim_now()
#define port_wait(n, interruptible)	((void)(n), sim_wait(interruptible))
#define port_relax()			sim_relax()

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#endif /* INVLOCK_CORE_PORT_SIM_H */
