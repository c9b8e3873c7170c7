/* SPDX-License-Identifier: MIT */
/* Late attach: wait until no thread is inside a call that began before the monitor was armed. */
#ifndef INVLOCK_LIB_MONITOR_BPF_DRAIN_H
#define INVLOCK_LIB_MONITOR_BPF_DRAIN_H

#include <invlock/mm.h>

#define DRAIN_TIME_NS	2000000000ULL

/**
 * drain() - wait for the calls that began before the monitor was armed
 * @open_pass: opens an iterator of the program scan_calls (bpf/invlock.bpf.c), or says -errno
 * @arg: for open_pass
 * @why: filled on error
 *
 * Context: sleeps, up to DRAIN_TIME_NS. Ordering: the caller has armed the monitor before.
 * Return: 0; -EBUSY = such a call is still running; -ENOMEM; or the kernel's error.
 */
int drain(int (*open_pass)(const void *arg), const void *arg, struct invlock_why *why);

#endif /* INVLOCK_LIB_MONITOR_BPF_DRAIN_H */
