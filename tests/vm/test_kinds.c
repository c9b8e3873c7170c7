// SPDX-License-Identifier: MIT
/*
 * Every way in which a program can make the kernel invalidate. Each test makes the change, and
 * expects an event of the right kind and range in the feed, and the end of the invalidation.
 */
#include "kinds.h"
#include "tests/huge.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <linux/userfaultfd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

TEST(munmap_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(munmap(p, LEN), 0);
	expect_exactly(p, LEN, INVLOCK_KIND_UNMAP);
}

TEST(munmap_of_untouched_memory_is_seen)
{
	char *p = map_aligned(LEN);

	begin();
	assert_int_equal(munmap(p, LEN), 0);
	expect_exactly(p, LEN, INVLOCK_KIND_UNMAP);
}

TEST(mmap_over_a_mapping_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_ptr_equal(mmap(p, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p);
	expect_exactly(p, LEN, INVLOCK_KIND_UNMAP);
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
	expect_exactly(p + PAGE, LEN - PAGE, INVLOCK_KIND_UNMAP);
}

TEST(mremap_that_moves_is_seen_at_both_places)
{
	char *p = small_pages(LEN), *q = small_pages(LEN);

	begin();
	assert_ptr_equal(mremap(p, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	expect_exactly(p, LEN, INVLOCK_KIND_UNMAP);
	expect_exactly(q, LEN, INVLOCK_KIND_UNMAP);
}

TEST(mprotect_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(mprotect(p, LEN, PROT_READ), 0);
	expect_exactly(p, LEN, INVLOCK_KIND_PROTECT);
}

TEST(madvise_dontneed_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(madvise(p, LEN, MADV_DONTNEED), 0);
	expect_exactly(p, LEN, INVLOCK_KIND_DISCARD);
}

TEST(madvise_dontneed_of_a_part_of_a_huge_page_is_seen)
{
	char *p = huge_page();

	/* the kernel starts a second invalidation, of the whole huge page, inside the first */
	begin();
	assert_int_equal(madvise(p + PAGE, PAGE, MADV_DONTNEED), 0);
	expect(p + PAGE, PAGE, INVLOCK_KIND_DISCARD);
}

TEST(madvise_free_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(madvise(p, LEN, MADV_FREE), 0);
	expect_exactly(p, LEN, INVLOCK_KIND_DISCARD);
}

TEST(madvise_remove_is_seen)
{
	int memfd = make_memfd(LEN, 0);
	char *p = map_fd(memfd, LEN, MAP_SHARED);

	memset(p, 1, LEN);
	begin();
	assert_int_equal(madvise(p, LEN, MADV_REMOVE), 0);
	expect_exactly(p, LEN, INVLOCK_KIND_DISCARD);
	close(memfd);
}

TEST(a_punched_hole_is_seen)
{
	int memfd = make_memfd(LEN, 0);
	char *p = map_fd(memfd, LEN, MAP_SHARED);

	memset(p, 1, LEN);
	begin();
	assert_int_equal(fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE,
				   4 * PAGE), 0);
	expect_exactly(p + PAGE, 4 * PAGE, INVLOCK_KIND_DISCARD);
	close(memfd);
}

TEST(truncation_by_another_process_is_seen_in_shared_and_private_mappings)
{
	int memfd = make_memfd(LEN, 0);
	char *p = map_fd(memfd, LEN, MAP_SHARED), *q = map_fd(memfd, LEN, MAP_PRIVATE);
	pid_t child;

	memset(p, 1, LEN);
	memset(q, 2, LEN);
	begin();
	child = fork_with_us();
	if (!child)
		_exit(ftruncate(memfd, 0));
	assert_int_equal(wait_for(child), 0);
	expect_exactly(p, LEN, INVLOCK_KIND_DISCARD);
	expect_exactly(q, LEN, INVLOCK_KIND_DISCARD);
	close(memfd);
}

TEST(fork_is_seen)
{
	char *p = small_pages(LEN);
	pid_t child;

	begin();
	child = fork_with_us();
	if (!child)
		_exit(0);
	expect(p, LEN, INVLOCK_KIND_PROTECT);
	wait_for(child);
}

TEST(a_copy_on_write_is_seen)
{
	char *p = small_pages(LEN);
	int go[2];
	pid_t child;

	assert_int_equal(pipe(go), 0);
	child = fork_with_us();
	if (!child) {
		char c;

		close(go[1]);
		_exit(read(go[0], &c, 1) != 0);
	}
	begin();
	p[PAGE] = 2;
	expect_exactly(p + PAGE, PAGE, INVLOCK_KIND_DISCARD);
	close(go[1]);
	close(go[0]);
	wait_for(child);
}

TEST(pageout_is_seen)
{
	char *p = small_pages(LEN);

	begin();
	assert_int_equal(madvise(p, LEN, MADV_PAGEOUT), 0);
	expect_each_page(p, LEN, INVLOCK_KIND_DISCARD, INVLOCK_KIND_DISCARD);
}

TEST(pageout_for_another_process_is_seen)
{
	int pipefd[2];
	struct iovec range;
	pid_t child;

	assert_int_equal(pipe(pipefd), 0);
	child = fork_with_us();
	if (!child) {
		int pidfd = syscall(SYS_pidfd_open, getppid(), 0);

		_exit(read(pipefd[0], &range, sizeof(range)) != sizeof(range) ||
		      syscall(SYS_process_madvise, pidfd, &range, 1UL, MADV_PAGEOUT, 0U) != MIB);
	}
	/* map them after the fork: pages that the child shares are not reclaimed */
	range = (struct iovec){ small_pages(MIB), MIB };
	begin();
	assert_int_equal(write(pipefd[1], &range, sizeof(range)), sizeof(range));
	assert_int_equal(wait_for(child), 0);
	/* some pages are still on a list of this CPU, where the other process cannot find them */
	assert_true(seen_within(range.iov_base, MIB, INVLOCK_KIND_DISCARD));
	assert_true(feed_is_quiet(&feed));
	close(pipefd[0]);
	close(pipefd[1]);
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
	expect_exactly(p, 2 * MIB, INVLOCK_KIND_DISCARD);
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

/* Linux 6.8 added this; older headers lack it. */
struct uffd_move {
	uint64_t dst;
	uint64_t src;
	uint64_t len;
	uint64_t mode;
	int64_t moved;
};
#define UFFD_MOVE_FEATURE	(1 << 16)
#define UFFD_MOVE_REQUEST	_IOWR(UFFDIO, 0x05, struct uffd_move)

TEST(a_page_moved_by_userfaultfd_is_seen_where_it_was)
{
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_MOVE_FEATURE };
	char *p = small_pages(LEN), *q = map_aligned(LEN);
	struct uffdio_register reg = {
		.range = { (unsigned long)q, LEN },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffd_move move = { .dst = (unsigned long)q, .src = (unsigned long)p, .len = PAGE };

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		TEST_SKIP("no userfaultfd that moves pages: %s", strerror(errno));
	begin();
	assert_int_equal(ioctl(uffd, UFFD_MOVE_REQUEST, &move), 0);
	expect(p, PAGE, INVLOCK_KIND_DISCARD);
	close(uffd);
}

static void ignore(int signal)
{
	(void)signal;
}

TEST(a_page_whose_memory_fails_is_seen)
{
	char *p = small_pages(LEN);
	/* the kernel sends SIGBUS to the processes that have the page */
	void (*old)(int) = signal(SIGBUS, ignore);
	int err;

	begin();
	err = madvise(p, PAGE, MADV_HWPOISON) ? errno : 0;
	signal(SIGBUS, old);
	if (err)
		TEST_SKIP("MADV_HWPOISON: %s", strerror(err));
	expect(p, PAGE, INVLOCK_KIND_DISCARD);
}

TEST(hugetlb_munmap_is_seen)
{
	size_t huge = huge_page_bytes();
	char *p;

	if (!write_file("/proc/sys/vm/nr_hugepages", "2"))
		TEST_SKIP("this kernel has no hugetlb");
	p = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		 -1, 0);
	if (p == MAP_FAILED)
		TEST_SKIP("no huge page is free");
	p[0] = 1;
	begin();
	assert_int_equal(munmap(p, huge), 0);
	expect_exactly(p, huge, INVLOCK_KIND_UNMAP);
	assert_true(write_file("/proc/sys/vm/nr_hugepages", "0"));
}

TEST_MAIN(.setup = setup, .teardown = teardown)
