/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * port_fetch_add() and port_cmpxchg() for a port whose writers exclude each other by a lock.
 *
 * They need no atomics: each is a load and a store with release, so that readers see the stores in
 * the order of the code. The change of the map that follows is ordered by locks: the writer drops
 * its lock, then the lock of the page table is taken, and a store before the one is visible after
 * the other.
 */
#ifndef INVLOCK_CORE_PORT_SERIAL_H
#define INVLOCK_CORE_PORT_SERIAL_H

#define port_fetch_add(p, v)						\
({									\
	__typeof__(p) __at = (p);					\
	__typeof__(*(p)) __before = port_load(__at);			\
									\
	port_store_release(__at, __before + (v));			\
	__before;							\
})

#define port_cmpxchg(p, old, new)					\
({									\
	__typeof__(p) __at = (p);					\
	__typeof__(*(p)) __seen = port_load(__at);			\
									\
	if (__seen == (old))						\
		port_store_release(__at, new);				\
	__seen;								\
})

#endif /* INVLOCK_CORE_PORT_SERIAL_H */
