// SPDX-License-Identifier: MIT
/*
 * Every way in which the kernel invalidates: it is made for real, and the feed must have an
 * event of the right kind that covers the whole range, with its end after it.
 */
#include "feed.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/userfaultfd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define LEN (16 * PAGE)

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
static void begin(void)
{
	before = feed_sequence(&feed);
}

static void expect(const void *start, size_t len, uint32_t kind)
{
	assert_non_null(feed_find(&feed, before, start, len, kind));
	assert_true(feed_is_quiet(&feed));
}

/* one page at a time is enough, for what the kernel does page by page */
static void expect_each_page(const char *start, size_t len, uint32_t kind, uint32_t or_kind)
{
	for (size_t at = 0; at < len; at += PAGE)
		assert_true(feed_find(&feed, before, start + at, PAGE, kind) ||
			    feed_find(&feed, before, start + at, PAGE, or_kind));
	assert_true(feed_is_quiet(&feed));
}

static char *small_pages(size_t len)
{
	char *p = map_aligned(len);

	madvise(p, len, MADV_NOHUGEPAGE);
	memset(p, 1, len);
	return p;
}

static char *huge_page(void)
{
	char *p = map_aligned(2 * MIB);

	assert_int_equal(madvise(p, 2 * MIB, MADV_HUGEPAGE), 0);
	memset(p, 1, 2 * MIB);
	return p;
}

TEST(munmap_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(munmap(p, LEN), 0);
	expect(p, LEN, INVLOCK_KIND_UNMAP);
}

TEST(munmap_of_untouched_memory_is_seen)
{
	char *p = map_aligned(LEN);

	begin();
	assert_int_equal(munmap(p, LEN), 0);
	expect(p, LEN, INVLOCK_KIND_UNMAP);
}

TEST(mmap_over_a_mapping_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_ptr_equal(mmap(p, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p);
	expect(p, LEN, INVLOCK_KIND_UNMAP);
}

TEST(brk_that_shrinks_is_seen)
{
	char *end = (char *)syscall(SYS_brk, 0);

	assert_ptr_equal((char *)syscall(SYS_brk, end + LEN), end + LEN);
	memset(end, 1, LEN);
	begin();
	assert_ptr_equal((char *)syscall(SYS_brk, end), end);
	expect((void *)(((unsigned long)end + PAGE - 1) & ~(PAGE - 1)), LEN - PAGE,
	       INVLOCK_KIND_UNMAP);
}

TEST(mremap_that_shrinks_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_ptr_equal(mremap(p, LEN, PAGE, 0), p);
	expect(p + PAGE, LEN - PAGE, INVLOCK_KIND_UNMAP);
}

TEST(mremap_that_moves_is_seen_at_both_places)
{
	char *p = small_pages(LEN), *q = small_pages(LEN);

	begin();
	assert_ptr_equal(mremap(p, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	expect(p, LEN, INVLOCK_KIND_UNMAP);
	expect(q, LEN, INVLOCK_KIND_UNMAP);
}

TEST(mprotect_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(mprotect(p, LEN, PROT_READ), 0);
	expect(p, LEN, INVLOCK_KIND_PROTECT);
}

TEST(dontneed_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(madvise(p, LEN, MADV_DONTNEED), 0);
	expect(p, LEN, INVLOCK_KIND_DISCARD);
}

TEST(dontneed_of_a_part_of_a_huge_page_is_seen)
{
	char *p = huge_page();

	/* an inner start for the whole huge page nests in the outer one */
	begin();
	assert_int_equal(madvise(p + PAGE, PAGE, MADV_DONTNEED), 0);
	expect(p + PAGE, PAGE, INVLOCK_KIND_DISCARD);
}

TEST(free_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(madvise(p, LEN, MADV_FREE), 0);
	expect(p, LEN, INVLOCK_KIND_DISCARD);
}

TEST(remove_is_seen)
{
	int memfd = make_memfd(LEN, 0);
	char *p = map_fd(memfd, LEN, MAP_SHARED);

	memset(p, 1, LEN);
	begin();
	assert_int_equal(madvise(p, LEN, MADV_REMOVE), 0);
	expect(p, LEN, INVLOCK_KIND_DISCARD);
	close(memfd);
}

TEST(truncation_by_another_process_is_seen_in_shared_and_private_mappings)
{
	int memfd = make_memfd(LEN, 0), status;
	char *p = map_fd(memfd, LEN, MAP_SHARED), *q = map_fd(memfd, LEN, MAP_PRIVATE);
	pid_t child;

	memset(p, 1, LEN);
	memset(q, 2, LEN);
	child = fork();
	if (!child) {
		sleep_ms(100);
		_exit(ftruncate(memfd, 0));
	}
	begin();
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	expect(p, LEN, INVLOCK_KIND_DISCARD);
	expect(q, LEN, INVLOCK_KIND_DISCARD);
	close(memfd);
}

TEST(fork_is_seen)
{
	char *p = small_pages(LEN);
	int status;
	pid_t child;

	begin();
	child = fork();
	if (!child)
		_exit(0);
	expect(p, LEN, INVLOCK_KIND_PROTECT);
	assert_int_equal(waitpid(child, &status, 0), child);
}

TEST(a_copy_on_write_is_seen)
{
	char *p = small_pages(LEN);
	int go[2], status;
	pid_t child;

	assert_int_equal(pipe(go), 0);
	child = fork();
	if (!child) {
		char c;

		close(go[1]);
		_exit(read(go[0], &c, 1) != 0);
	}
	begin();
	p[PAGE] = 2;
	expect(p + PAGE, PAGE, INVLOCK_KIND_DISCARD);
	close(go[1]);
	close(go[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
}

TEST(pageout_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(madvise(p, LEN, MADV_PAGEOUT), 0);
	/* 6.1 does not mark the task as one that reclaims */
	expect_each_page(p, LEN, INVLOCK_KIND_MIGRATE, INVLOCK_KIND_DISCARD);
}

TEST(reclaim_by_a_memory_cgroup_is_seen)
{
	char *p, text[32];
	bool found = false;

	if (mkdir("/sys/fs/cgroup/reclaim", 0755))
		TEST_SKIP("no memory cgroup: %s", strerror(errno));
	snprintf(text, sizeof(text), "%d", getpid());
	assert_true(write_file("/sys/fs/cgroup/reclaim/cgroup.procs", text));
	p = small_pages(4 * MIB);
	begin();
	write_file("/sys/fs/cgroup/reclaim/memory.reclaim", "3M");
	for (size_t at = 0; at < 4 * MIB && !found; at += PAGE)
		found = feed_find(&feed, before, p + at, PAGE, INVLOCK_KIND_MIGRATE);
	assert_true(write_file("/sys/fs/cgroup/cgroup.procs", text));
	assert_true(found);
	assert_true(feed_is_quiet(&feed));
}

static long move_pages_to(char *p, unsigned int nr, int node)
{
	void *pages[16];
	int nodes[16], status[16];

	for (unsigned int i = 0; i < nr; i++) {
		pages[i] = p + i * PAGE;
		nodes[i] = node;
	}
	return syscall(SYS_move_pages, 0, (unsigned long)nr, pages, node < 0 ? NULL : nodes, status,
		       node < 0 ? 0 : 2) ?: status[0];
}

TEST(migration_to_another_node_is_seen)
{
	char *p = small_pages(LEN);
	long node = move_pages_to(p, 16, -1);

	if (node < 0)
		TEST_SKIP("this kernel does not move pages");
	begin();
	assert_int_equal(move_pages_to(p, 16, !node), !node);
	expect_each_page(p, LEN, INVLOCK_KIND_DISCARD, INVLOCK_KIND_DISCARD);
}

TEST(collapse_into_a_huge_page_is_seen)
{
	char *p = small_pages(2 * MIB);

	madvise(p, 2 * MIB, MADV_HUGEPAGE);
	begin();
	if (madvise(p, 2 * MIB, MADV_COLLAPSE))
		TEST_SKIP("MADV_COLLAPSE: %s", strerror(errno));
	expect(p, 2 * MIB, INVLOCK_KIND_DISCARD);
}

TEST(merging_of_equal_pages_is_seen)
{
	char *p = small_pages(LEN);
	bool found = false;

	if (!write_file("/sys/kernel/mm/ksm/sleep_millisecs", "10") ||
	    !write_file("/sys/kernel/mm/ksm/pages_to_scan", "1000"))
		TEST_SKIP("this kernel has no KSM");
	begin();
	assert_int_equal(madvise(p, LEN, MADV_MERGEABLE), 0);
	assert_true(write_file("/sys/kernel/mm/ksm/run", "1"));
	for (unsigned int i = 0; i < 1000 && !found; i++) {
		sleep_ms(10);
		for (size_t at = 0; at < LEN && !found; at += PAGE)
			found = feed_find(&feed, before, p + at, PAGE, INVLOCK_KIND_DISCARD);
	}
	assert_true(write_file("/sys/kernel/mm/ksm/run", "0"));
	assert_true(found);
}

TEST(soft_dirty_tracking_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	if (!write_file("/proc/self/clear_refs", "4"))
		TEST_SKIP("clear_refs: %s", strerror(errno));
	if (feed_sequence(&feed) == before)
		TEST_SKIP("this kernel has no soft-dirty bits");
	expect(p, LEN, INVLOCK_KIND_SOFT_DIRTY);
}

TEST(userfaultfd_write_protection_is_seen)
{
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	char *p = small_pages(LEN);
	struct uffdio_register reg = {
		.range = { (unsigned long)p, LEN },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)p, LEN },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		TEST_SKIP("no userfaultfd that protects: %s", strerror(errno));
	begin();
	assert_int_equal(ioctl(uffd, UFFDIO_WRITEPROTECT, &wp), 0);
	assert_true(feed_find(&feed, before, p, LEN, INVLOCK_KIND_PROTECT) ||
		    feed_find(&feed, before, p, LEN, INVLOCK_KIND_DISCARD));
	assert_true(feed_is_quiet(&feed));
	close(uffd);
}

TEST(hugetlb_munmap_is_seen)
{
	char *p;

	if (!write_file("/proc/sys/vm/nr_hugepages", "2"))
		TEST_SKIP("this kernel has no hugetlb");
	p = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		 -1, 0);
	if (p == MAP_FAILED)
		TEST_SKIP("no huge page is free");
	p[0] = 1;
	begin();
	assert_int_equal(munmap(p, 2 * MIB), 0);
	expect(p, 2 * MIB, INVLOCK_KIND_UNMAP);
	assert_true(write_file("/proc/sys/vm/nr_hugepages", "0"));
}

#define SEEN(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

TEST_MAIN(
	SEEN(munmap_is_seen),
	SEEN(munmap_of_untouched_memory_is_seen),
	SEEN(mmap_over_a_mapping_is_seen),
	SEEN(brk_that_shrinks_is_seen),
	SEEN(mremap_that_shrinks_is_seen),
	SEEN(mremap_that_moves_is_seen_at_both_places),
	SEEN(mprotect_is_seen),
	SEEN(dontneed_is_seen),
	SEEN(dontneed_of_a_part_of_a_huge_page_is_seen),
	SEEN(free_is_seen),
	SEEN(remove_is_seen),
	SEEN(truncation_by_another_process_is_seen_in_shared_and_private_mappings),
	SEEN(fork_is_seen),
	SEEN(a_copy_on_write_is_seen),
	SEEN(pageout_is_seen),
	SEEN(reclaim_by_a_memory_cgroup_is_seen),
	SEEN(migration_to_another_node_is_seen),
	SEEN(collapse_into_a_huge_page_is_seen),
	SEEN(merging_of_equal_pages_is_seen),
	SEEN(soft_dirty_tracking_is_seen),
	SEEN(userfaultfd_write_protection_is_seen),
	SEEN(hugetlb_munmap_is_seen)
)
