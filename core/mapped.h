/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Kinds of memory, as a look at a mapping tells them apart: what can happen to memory, and who
 * sees it, depends on them.
 */
#ifndef INVLOCK_CORE_MAPPED_H
#define INVLOCK_CORE_MAPPED_H

enum mapped {
	MAPPED_GOOD,		/* the answer of a look that found nothing to refuse */
	MAPPED_ANON,		/* private and anonymous, also of huge pages */
	MAPPED_SHARED,		/* of a page cache, shared: a file, a memfd, System V's, ... */
	MAPPED_PRIVATE_FILE,	/* of a page cache, private: copies, and pages not yet copied */
	MAPPED_DAX,		/* a file without a page cache */
	MAPPED_FOREIGN,		/* a driver, a socket or the kernel chooses the pages */
	MAPPED_HOLE,		/* nothing is mapped */
	MAPPED_UNKNOWN,		/* it could not be looked at */
	NR_MAPPED
};

#define MAPPED_BIT(mapped)	(1U << MAPPED_##mapped)

#endif /* INVLOCK_CORE_MAPPED_H */
