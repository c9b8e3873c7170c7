/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * The feed: what happened to the memory map of one process, in shared memory.
 *
 * One writer side (a BPF program, a kernel module, a monitor thread, the
 * program itself) and any number of readers, which need no system call but to
 * settle (docs/design.md), and map it read-only where the kernel writes it. The
 * layout is an ABI: fixed widths, sizes first, reserved fields zero.
 *
 *	struct invlock_feed	the header, INVLOCK_FEED_HEADER_SIZE bytes
 *	__u64 words[nr_words]	at words_offset, one word per stripe
 *	struct invlock_event	events[nr_events] at events_offset, the ring
 *
 * An invalidation of [start, end) by a writer, in this order:
 *	1. every word of the range (or wide) += INVLOCK_START	atomic RMWs
 *	2. n = ++sequence					atomic RMW
 *	3. events[n % nr_events] = {n, range, kind}		see invlock_event
 *	4. the map changes
 *	5. the same words (or wide) += INVLOCK_END		atomic RMWs
 * Where a lock excludes all other writers, stores with release do as well.
 *
 * A translation of [start, end) by a reader, in this order:
 *	1. load sequence (acquire)
 *	2. load every word of the range and wide; all must be quiet (low half 0)
 *	3. translate
 *	4. it is valid while those words, loaded after sequence, are unchanged
 * After a word moved, the ring may prove that no event overlapped: load the
 * words, then sequence, then every event since the last proof. Words that were
 * quiet in that load replace the old ones; words that were not are left alone
 * and only the sequence moves on, else an event not yet recorded is absorbed.
 *
 * A writer that may be skipped for a while (it is blind) says so before the first
 * change can be missed: it raises blind, adds INVLOCK_START to wide, and claims an
 * event, which stays busy. When it sees again, and the changes that it missed are
 * made, it writes that event: a range of everything if it missed any, else one that
 * overlaps nothing. Then it adds INVLOCK_END to wide, and lowers blind last.
 *
 * A writer that could not record a change moves wide and sequence after it and
 * writes no event: every reader then says "stale". One that cannot wait for the
 * change to be made closes the feed. This is the rule for every overflow.
 */
#ifndef _INVLOCK_FEED_H
#define _INVLOCK_FEED_H

#include <linux/types.h>

#define INVLOCK_FEED_MAGIC		0x3130646565666e69ULL	/* "infeed01" */
#define INVLOCK_FEED_VERSION		2
#define INVLOCK_FEED_HEADER_SIZE	4096

/* The geometry every writer of this project uses; readers take the header's. */
#define INVLOCK_STRIPE_SHIFT		21	/* 2 MiB */
#define INVLOCK_NR_WORDS		4096
#define INVLOCK_NR_EVENTS		65536

/* A writer whose range touches more stripes than this moves only wide. */
#define INVLOCK_MAX_SPAN		32

/* word = generation << 16 | invalidations running now */
#define INVLOCK_GENERATION		(1ULL << 16)
#define INVLOCK_RUNNING_MASK		(INVLOCK_GENERATION - 1)
#define INVLOCK_START			(INVLOCK_GENERATION + 1)
#define INVLOCK_END			(-1ULL)
/* So many at once on one word: the writer degrades the feed, long before a carry. */
#define INVLOCK_RUNNING_LIMIT		0x8000

/* An event whose slot is being written carries this bit in seq. */
#define INVLOCK_EVENT_BUSY		(1ULL << 63)

/* An open upper bound: up to the top of the address space. */
#define INVLOCK_ADDRESS_END		(~0ULL)

/* invlock_feed.flags: sticky; whoever sets one also moves wide and sequence */
#define INVLOCK_FEED_DEAD		(1ULL << 0)	/* the mm is gone (exit, exec) */
#define INVLOCK_FEED_DEGRADED		(1ULL << 1)	/* an end can no longer come */

/*
 * Kinds of change. The number is the bit in capability masks. Append only.
 */
enum invlock_kind {
	INVLOCK_KIND_UNKNOWN	= 0,	/* a change that could not be decoded */
	INVLOCK_KIND_UNMAP	= 1,	/* munmap */
	INVLOCK_KIND_FIXED	= 2,	/* mmap MAP_FIXED over a mapping */
	INVLOCK_KIND_REMAP_FROM	= 3,	/* mremap: the range that goes away */
	INVLOCK_KIND_REMAP_TO	= 4,	/* mremap: the range that is replaced */
	INVLOCK_KIND_DISCARD	= 5,	/* MADV_DONTNEED, _LOCKED */
	INVLOCK_KIND_FREE	= 6,	/* MADV_FREE: the pages may go later */
	INVLOCK_KIND_REMOVE	= 7,	/* MADV_REMOVE */
	INVLOCK_KIND_GUARD	= 8,	/* MADV_GUARD_INSTALL */
	INVLOCK_KIND_BRK	= 9,	/* brk shrink */
	INVLOCK_KIND_SHMDT	= 10,	/* shmdt */
	INVLOCK_KIND_SHM_REMAP	= 11,	/* shmat SHM_REMAP */
	INVLOCK_KIND_REORDER	= 12,	/* remap_file_pages */
	INVLOCK_KIND_TRUNCATE	= 13,	/* pages left a shared mapped file: truncate, punch */
	INVLOCK_KIND_TRUNCATE_PRIVATE = 14, /* the same under a MAP_PRIVATE mapping */
	INVLOCK_KIND_URING	= 15,	/* io_uring MADVISE */
	INVLOCK_KIND_PROTECT	= 16,	/* mprotect, pkey_mprotect */
	INVLOCK_KIND_MOVE	= 17,	/* UFFDIO_MOVE */
	INVLOCK_KIND_MIGRATE	= 18,	/* migration, KSM, reclaim: kernel-made */
	INVLOCK_KIND_SOFT_DIRTY	= 19,	/* soft-dirty, write tracking */
	INVLOCK_KIND_RELEASE	= 20,	/* the mm goes away */
	INVLOCK_KIND_MANUAL	= 21,	/* reported by the program */
	INVLOCK_NR_KINDS
};

/**
 * struct invlock_event - one invalidation, as the ring keeps it
 * @seq: its number; 0 never written; INVLOCK_EVENT_BUSY while it is written
 * @start: first byte
 * @end: the byte after the last, or INVLOCK_ADDRESS_END
 * @time: CLOCK_MONOTONIC, nanoseconds; 0 where the writer does not record it
 * @kind: enum invlock_kind
 * @tid: the thread that made the change; 0 = unknown
 *
 * Writer: compare-exchange seq from an older, not busy value to n|BUSY; fill;
 * store n with release. When the exchange fails the event is dropped, and a
 * reader that looks for n does not find it and says "stale".
 * Reader: seq == n (acquire), fields, seq == n again.
 */
struct invlock_event {
	__u64 seq;
	__u64 start;
	__u64 end;
	__u64 time;
	__u32 kind;
	__u32 tid;
};

/**
 * struct invlock_feed - the header of a feed
 * @size: of this header, INVLOCK_FEED_HEADER_SIZE
 * @version: INVLOCK_FEED_VERSION; another one is another layout
 * @magic: INVLOCK_FEED_MAGIC
 * @feed_size: bytes, all three parts
 * @nr_words: a power of two, 1 and up
 * @nr_events: a power of two, or 0: no ring
 * @stripe_shift: log2 of a stripe's bytes, 12 to 40
 * @words_offset: from the start of the header, a multiple of 8
 * @events_offset: the same
 * @reserved: zero
 * @sequence: the number of the newest event; written by every invalidation, so
 *	alone on its cache line
 * @wide: the word of invalidations too wide for stripes, and of everything that
 *	could not be recorded; part of every range
 * @flags: INVLOCK_FEED_*
 * @blind: how many CPUs the writer may miss changes on at this moment. While it is not 0,
 *	a reader whose words moved must wait: it can neither trust nor condemn what it has.
 * @lost: changes a writer could not record; a statistic, readers decide by @wide
 * @dropped: events that found their slot busy; a statistic
 * @missed: runs of the writer that the kernel skipped; a statistic
 */
struct invlock_feed {
	__u32 size;
	__u32 version;
	__u64 magic;
	__u64 feed_size;
	__u32 nr_words;
	__u32 nr_events;
	__u32 stripe_shift;
	__u32 words_offset;
	__u32 events_offset;
	__u32 reserved[5];

	__u64 sequence __attribute__((aligned(64)));

	__u64 wide __attribute__((aligned(64)));
	__u64 flags;
	__u64 blind;

	__u64 lost __attribute__((aligned(64)));
	__u64 dropped;
	__u64 missed;
} __attribute__((aligned(64)));

#endif /* _INVLOCK_FEED_H */
