/* SPDX-License-Identifier: MIT */
/* The calling thread's record of pins (core/pin.h), found through TLS. */
#ifndef INVLOCK_LIB_THREAD_H
#define INVLOCK_LIB_THREAD_H

#include "core/pin.h"

extern struct pin_registry thread_registry;

/* how often this process is a forked child that forgot its parent's pins; changes with them */
extern u32 thread_epoch;

/* initial-exec: no call, and no allocation on the first use in a thread */
extern _Thread_local struct pin_thread *thread_self __attribute__((tls_model("initial-exec")));

/* the record, made or adopted if need be; NULL = out of memory */
struct pin_thread *thread_get(void);

/* an empty slot of it, made if need be; NULL = out of memory */
struct pin_slot *thread_slot(struct pin_thread *self);

/* before a cache is opened: after a fork, forget the pins of the parent's threads */
int thread_prepare(void);

#endif /* INVLOCK_LIB_THREAD_H */
