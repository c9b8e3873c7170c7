/* SPDX-License-Identifier: MIT */
/*
 * The mm: the address space of this process, and the monitor that watches it.
 *
 * One process has one feed for each monitor, however many users open it. An
 * invlock_mm is a reference to it.
 *
 * fork: in the child every invlock_mm that it inherited is dead; each call that
 * takes one answers -EOWNERDEAD, invlock_mm_close() frees the child's copy, and
 * invlock_mm_open() works. exec closes everything. The library stays loaded after
 * dlclose(). No call of the library is a cancellation point.
 */
#ifndef INVLOCK_MM_H
#define INVLOCK_MM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <invlock/kind.h>
#include <invlock/version.h>

#ifdef __cplusplus
extern "C" {
#endif

struct invlock_mm;

/**
 * struct invlock_why - an error, as a sentence
 * @text: what was wrong and what to do, NUL-terminated; empty after success. There is room for a
 *	sentence of each monitor.
 */
struct invlock_why {
	char text[2048];
};

#define INVLOCK_MM_NO_SELFTEST	1u	/* do not test the monitor, trust what it says */

/**
 * struct invlock_mm_options - how to open an mm
 * @size: sizeof(struct invlock_mm_options)
 * @flags: INVLOCK_MM_*
 * @monitor: "kmod", "bpf", "daemon", "uffd", "manual"; NULL = the first in this order, manual
 *	never, that works and sees every kind in @need; the environment can limit the choice to one
 * @need: mask of kinds that must be seen, or kept away: a monitor need not see what can only
 *	happen to memory that it refuses. 0 = INVLOCK_KINDS_DEFAULT. "manual" sees
 *	what the program reports, so it is held to none.
 */
struct invlock_mm_options {
	size_t size;
	unsigned int flags;
	const char *monitor;
	uint64_t need;
};

/**
 * invlock_mm_open() - begin to watch the memory map of this process
 * @options: NULL for the defaults
 * @ret_mm: written on success only
 * @why: NULL, or filled with the reason of an error
 *
 * Works at any time, also when many threads run. Makes real changes to a mapping of
 * its own, to test that the monitor sees what it says (unless told not to).
 *
 * Environment: where the program names no monitor, INVLOCK_MONITOR=NAME makes this one the only
 * choice. It may be "kmod", "bpf", "daemon" or "uffd", and has to see every kind in @need as well.
 * It is ignored when the program runs with privileges that its user does not have (setuid, setcap).
 *
 * Context: may sleep, allocates; not in a signal handler.
 * Return: 0; -E2BIG for a field that this version does not know; -EINVAL for bad options, or a
 * monitor that does not exist, also in the environment; -EOPNOTSUPP when the monitor does not
 * see a kind in @need, or fails its self-test; -EPERM, -ENOSYS, -ENOMEM, ... if the monitor cannot
 * be opened; with no monitor named, the error of the last one tried, and @why has a sentence for
 * each. Since: 0.1
 */
int invlock_mm_open(const struct invlock_mm_options *options, struct invlock_mm **ret_mm,
		    struct invlock_why *why);

/**
 * invlock_mm_close() - drop a reference
 * @mm: from invlock_mm_open(); NULL is nothing
 *
 * A cache keeps a reference of its own. Context: may sleep. Since: 0.1
 */
void invlock_mm_close(struct invlock_mm *mm);

/**
 * invlock_mm_alive() - may this process use what it opened?
 * @mm: the mm
 *
 * Context: any, a load. Return: true; false for NULL, and in a forked child. Since: 0.1
 */
bool invlock_mm_alive(const struct invlock_mm *mm);

/**
 * struct invlock_mm_info - what watches, and what it sees
 * @size: sizeof(struct invlock_mm_info), set by the caller
 * @monitor: its name
 * @seen: mask of the kinds it sees
 * @exact: those of them that it marks before the change is made, for every thread;
 *	for the others a stale use is possible in a small window
 * @sequence: invalidations so far
 * @lost: changes that could not be recorded; each made every translation stale
 * @dropped: events that are not in the ring
 * @missed: runs of the monitor that the kernel skipped
 * @feed: the feed, read-only; valid until the mm is closed
 * @feed_size: its bytes
 * @refused: mask of kinds that it need not see, since they can only happen to memory of which it
 *	refuses every translation, range by range
 * @caught: removals of memory that nothing had announced and that the monitor's net caught; each
 *	made every translation stale before it was made
 */
struct invlock_mm_info {
	size_t size;
	const char *monitor;
	uint64_t seen;
	uint64_t exact;
	uint64_t sequence;
	uint64_t lost;
	uint64_t dropped;
	uint64_t missed;
	const struct invlock_feed *feed;
	size_t feed_size;
	uint64_t refused;
	uint64_t caught;
};

/**
 * invlock_mm_info() - ask which monitor watches, and what it sees
 * @mm: the mm
 * @ret_info: its size field is set by the caller; filled up to that size
 *
 * Context: any. Return: 0; -EINVAL for NULL or a size below the first version's;
 * -EOWNERDEAD in a forked child. Since: 0.1
 */
int invlock_mm_info(const struct invlock_mm *mm, struct invlock_mm_info *ret_info);

/**
 * invlock_mm_explain() - would this memory be watched, and if not, why not?
 * @mm: the mm
 * @addr: first byte
 * @len: bytes, not 0
 * @why: NULL, or filled with a sentence that names the mapping and what can happen to it unseen
 *
 * Makes the check that a miss of a cache makes: when invlock_cache_get() or a read section has
 * returned -EMEDIUMTYPE or -EFAULT, the sentence says for which memory, and why. The answer holds
 * until the map changes.
 * Context: some system calls. Return: 0 when it is watched, or the monitor refuses nothing;
 * -EMEDIUMTYPE when it is refused, because the monitor might not see a change of it; -EFAULT when
 * nothing is mapped in a part of it; -EINVAL for NULL, an empty range or one that wraps;
 * -EOWNERDEAD in a forked child; other errors of the monitor. Since: 0.1
 */
int invlock_mm_explain(struct invlock_mm *mm, const void *addr, size_t len,
		       struct invlock_why *why)
	INVLOCK_ONLY_ADDRESS(2);

#ifdef __cplusplus
}
#endif

#endif /* INVLOCK_MM_H */
