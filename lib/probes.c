// SPDX-License-Identifier: MIT
#include "probes.h"

#ifdef INVLOCK_SDT

/* Tracers find the semaphores by the notes of the probes. */
#define DEFINE(name)							\
unsigned short invlock_##name##_semaphore __attribute__((section(".probes"), used))

DEFINE(miss);
DEFINE(refused);
DEFINE(stale);
DEFINE(evict);
DEFINE(reg);
DEFINE(dereg);

#endif
