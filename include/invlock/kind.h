/* SPDX-License-Identifier: MIT */
/*
 * Kinds of change: what can make a translation stale.
 *
 * The kinds are numbered in <invlock/feed.h>; a set of them is a 64-bit mask.
 */
#ifndef INVLOCK_KIND_H
#define INVLOCK_KIND_H

#include <stdint.h>
#include <invlock/feed.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INVLOCK_BIT(kind)	(UINT64_C(1) << INVLOCK_KIND_##kind)

/*
 * The kinds that move a pinned registration of private anonymous memory away
 * from what the program sees (shown with io_uring fixed buffers).
 */
#define INVLOCK_KINDS_ANON	(INVLOCK_BIT(UNMAP) | INVLOCK_BIT(FIXED) | \
				 INVLOCK_BIT(REMAP_FROM) | INVLOCK_BIT(REMAP_TO) | \
				 INVLOCK_BIT(DISCARD) | INVLOCK_BIT(FREE) | \
				 INVLOCK_BIT(REMOVE) | INVLOCK_BIT(GUARD) | \
				 INVLOCK_BIT(BRK) | INVLOCK_BIT(SHMDT) | \
				 INVLOCK_BIT(SHM_REMAP) | INVLOCK_BIT(REORDER) | \
				 INVLOCK_BIT(URING))

/* The same for memfds, shared memory and shared mapped files: truncation too. */
#define INVLOCK_KINDS_SHARED	(INVLOCK_KINDS_ANON | INVLOCK_BIT(TRUNCATE))

/*
 * What a cache asks for unless it is told otherwise: the same for private mappings of files, too.
 * A monitor that does not see a kind which happens to one sort of memory alone refuses that memory.
 */
#define INVLOCK_KINDS_DEFAULT	(INVLOCK_KINDS_SHARED | INVLOCK_BIT(TRUNCATE_PRIVATE))

/*
 * For programs that can do without an exact monitor, and run where none may be had: what uffd,
 * which needs no privilege, sees or keeps away. It is the default without MADV_GUARD_INSTALL and
 * SHM_REMAP, which the program then never does to memory that it caches. Where a better monitor
 * works, it is still preferred. uffd learns of madvise() a moment too late: see docs/monitors.md.
 */
#define INVLOCK_KINDS_UFFD	(INVLOCK_KINDS_DEFAULT & \
				 ~(INVLOCK_BIT(GUARD) | INVLOCK_BIT(SHM_REMAP)))

/**
 * invlock_kind_name() - the name of a kind, as tools print it
 * @kind: enum invlock_kind
 *
 * Context: any. Return: a constant string, "unknown" for a number that is none.
 * Since: 0.1
 */
const char *invlock_kind_name(unsigned int kind);

#ifdef __cplusplus
}
#endif

#endif /* INVLOCK_KIND_H */
