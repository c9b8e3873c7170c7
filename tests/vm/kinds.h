/* SPDX-License-Identifier: MIT */
/* What test_kinds*.c share: they make a change, then look for its event in the feed. */
#ifndef INVLOCK_TESTS_VM_KINDS_H
#define INVLOCK_TESTS_VM_KINDS_H

#include "feed.h"

#define LEN	(16 * PAGE)
/* how many times 10 ms to wait for a thread of the kernel */
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

/* Only events after this call count. */
static inline void begin(void)
{
	before = feed_sequence(&feed);
}

static inline bool seen(const void *start, size_t len, uint32_t kind)
{
	return feed_find(&feed, before, start, len, kind);
}

/* Expect an event that covers the range, and an end for every start. */
static inline void expect(const void *start, size_t len, uint32_t kind)
{
	assert_true(seen(start, len, kind));
	assert_true(feed_is_quiet(&feed));
}

/* Expect an event of exactly this range, for a change whose range the caller chooses. */
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

/* Expect an event of one of two kinds for each page, for what the kernel may do page by page. */
static inline void expect_each_page(const char *start, size_t len, uint32_t kind,
				    uint32_t or_kind)
{
	for (size_t at = 0; at < len; at += PAGE)
		assert_true(seen(start + at, PAGE, kind) || seen(start + at, PAGE, or_kind));
	assert_true(feed_is_quiet(&feed));
}

/* Is there an event that touches the range? For changes where the kernel chooses the pages. */
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

/* Expect an end for every start, but allow some time for it. */
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

	if (access("/sys/kernel/mm/transparent_hugepage", F_OK))
		TEST_SKIP("this kernel has no transparent huge pages");
	assert_int_equal(madvise(p, 2 * MIB, MADV_HUGEPAGE), 0);
	memset(p, 1, 2 * MIB);
	return p;
}

#endif /* INVLOCK_TESTS_VM_KINDS_H */
