/* SPDX-License-Identifier: MIT */
/*
 * Probes (USDT) for those who trace a program: docs/operators.md names them with their arguments. A
 * probe is a nop until a tracer attaches to it. None is in the path of a hit.
 *
 * They are there if <sys/sdt.h> was there when the library was built.
 */
#ifndef INVLOCK_LIB_PROBES_H
#define INVLOCK_LIB_PROBES_H

#include "core/port.h"

#ifdef INVLOCK_SDT

/* A tracer counts up the semaphore of each probe that it attaches to. */
#define _SDT_HAS_SEMAPHORES 1
#define SDT_USE_VARIADIC 1
#include <sys/sdt.h>

#define PROBE_SEMAPHORE(name)						\
extern unsigned short invlock_##name##_semaphore __attribute__((visibility("hidden")))

PROBE_SEMAPHORE(miss);
PROBE_SEMAPHORE(refused);
PROBE_SEMAPHORE(stale);
PROBE_SEMAPHORE(evict);
PROBE_SEMAPHORE(reg);
PROBE_SEMAPHORE(dereg);

#define PROBE(name, ...)	STAP_PROBEV(invlock, name, __VA_ARGS__)

/* Does anybody trace this probe? For arguments that cost something. */
#define PROBE_IS_TRACED(name)	unlikely(port_load(&invlock_##name##_semaphore))

#else

static inline void probe_nothing(int unused, ...)
{
	(void)unused;
}

#define PROBE(name, ...)	probe_nothing(0, __VA_ARGS__)
#define PROBE_IS_TRACED(name)	false

#endif

#endif /* INVLOCK_LIB_PROBES_H */
