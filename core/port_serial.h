/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * port_fetch_add() and port_cmpxchg() for a port whose writers exclude each other by a lock.
 *
 * No atomics: a load, and a store with release, which keeps the order of the code for readers.
 * It does not order what changes the map behind it; the writers' lock does, with the one that
 * the page table is then changed under: a store before a drop comes before one behind a take.
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
