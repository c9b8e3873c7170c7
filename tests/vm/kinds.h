/* SPDX-License-Identifier: MIT */
/* What test_kinds*.c share: make a change, then look for its event in the feed. */
#ifndef INVLOCK_TESTS_VM_KINDS_H
#define INVLOCK_TESTS_VM_KINDS_H

#include "feed.h"

#define LEN	(16 * PAGE)
/* as many times 10 ms may the kernel's own threads take */
#define PATIENCE	30000

static struct feed feed;
static uint64_t before;

static int setup(void **state)
{
	(void)state;
	feed_open(&feed, 1ULL << INVLOCK_KIND_PROTECT | 1ULL << INVLOCK_KIND_SOFT_DIRTY |
			 1ULL << INVLOCK_KIND_MIGRATE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	feed_close(&feed);
	return 0;
}

/* from here on an event counts */
static inline void begin(void)
{
	before = feed_sequence(&feed);
}

static inline bool seen(const void *start, size_t len, uint32_t kind)
{
	return feed_find(&feed, before, start, len, kind);
}

/* an event that covers the range, and no start without its end */
static inline void expect(const void *start, size_t len, uint32_t kind)
{
	assert_true(seen(start, len, kind));
	assert_true(feed_is_quiet(&feed));
}

/* the same, of this range and of no byte more: for what takes a range from its caller */
static inline void expect_exactly(const void *start, size_t len, uint32_t kind)
{
	bool found = false;

	for (uint64_t seq = feed_sequence(&feed); seq > before && !found; seq--) {
		const struct invlock_event *e = &feed.il.events[seq & feed.il.event_mask];

		found = e->seq == seq && e->kind == kind && e->start == (unsigned long)start &&
			e->end == (unsigned long)start + len;
	}
	assert_true(found);
	assert_true(feed_is_quiet(&feed));
}

/* one page at a time is enough, for what the kernel does page by page */
static inline void expect_each_page(const char *start, size_t len, uint32_t kind,
				    uint32_t or_kind)
{
	for (size_t at = 0; at < len; at += PAGE)
		assert_true(seen(start + at, PAGE, kind) || seen(start + at, PAGE, or_kind));
	assert_true(feed_is_quiet(&feed));
}

/* for what the kernel does to the pages that it chooses: to any of these? */
static inline bool seen_within(const void *start, size_t len, uint32_t kind)
{
	for (uint64_t seq = feed_sequence(&feed); seq > before; seq--) {
		const struct invlock_event *e = &feed.il.events[seq & feed.il.event_mask];

		if (e->seq == seq && e->kind == kind && e->start < (unsigned long)start + len &&
		    e->end > (unsigned long)start)
			return true;
	}
	return false;
}

/* a start may have been seen before its end */
static inline void expect_quiet_soon(void)
{
	for (unsigned int i = 0; i < PATIENCE && !feed_is_quiet(&feed); i++)
		sleep_ms(10);
	assert_true(feed_is_quiet(&feed));
}

static inline char *small_pages(size_t len)
{
	char *p = map_aligned(len);

	madvise(p, len, MADV_NOHUGEPAGE);
	memset(p, 1, len);
	return p;
}

static inline char *huge_page(void)
{
	char *p = map_aligned(2 * MIB);

	assert_int_equal(madvise(p, 2 * MIB, MADV_HUGEPAGE), 0);
	memset(p, 1, 2 * MIB);
	return p;
}

#endif /* INVLOCK_TESTS_VM_KINDS_H */
