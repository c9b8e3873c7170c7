/* SPDX-License-Identifier: MIT */
/*
 * The plug-in for libfabric, inside.
 *
 *	plugin.c	a provider that provides nothing: it imports the monitor
 *	monitor.c	what libfabric calls: may a cached registration be used?
 *	records.[ch]	the ranges that libfabric has registered, and a sample of each
 *	quiet.[ch]	nothing at all has changed since the reaper found all of them good
 *
 * libfabric calls subscribe() when a range has been registered already. A sample that is taken
 * there is too late: the map may have changed in between. What surely comes before a registration,
 * on the same thread, is a valid() that says no. So a range whose sample is not known is refused
 * once, a sample is taken on that occasion, and the registration that follows is known to be later.
 *
 * Most ranges need no such refusal. libfabric calls subscribe() on the thread that has registered,
 * so what this thread registers next is later than the moment of that call. If nothing has changed
 * there since that moment, the registration is good.
 *
 * libfabric calls valid(), subscribe() and unsubscribe() under one lock, which all caches of the
 * process share. So valid() reads the records without a lock of ours: the other threads that change
 * them are kept out by libfabric's, and the reaper, which has only ours, changes no table.
 *
 * Lock order: libfabric's own lock, under which it calls us; then the lock of the records. notify()
 * takes libfabric's lock: it is called by the reaper alone, with no lock held.
 */
#ifndef INVLOCK_OFI_MONITOR_H
#define INVLOCK_OFI_MONITOR_H

#include <rdma/fabric.h>
#include <rdma/fi_ext.h>

extern struct fid_mem_monitor ofi_monitor;

#endif /* INVLOCK_OFI_MONITOR_H */
