// SPDX-License-Identifier: MIT
/* /dev/invlock, used directly and through the library's kmod monitor. */
#include "drill_device.h"
#include "feed.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <invlock/mm.h>

#include "tool/changes/changes.h"
#include "lib/monitor/monitor.h"

TEST(the_feed_cannot_be_written)
{
	struct feed f;

	feed_open(&f, 0);
	assert_ptr_equal(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0), MAP_FAILED);
	assert_int_equal(errno, EACCES);
	assert_ptr_equal(mmap(NULL, PAGE, PROT_WRITE, MAP_PRIVATE, f.fd, 0), MAP_FAILED);
	assert_int_equal(errno, EACCES);
	assert_int_equal(mprotect(f.il.feed, f.bytes, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(errno, EACCES);
	feed_close(&f);
}

TEST(no_more_than_the_feed_can_be_mapped)
{
	struct feed f;

	feed_open(&f, 0);
	assert_ptr_equal(mmap(NULL, f.bytes + PAGE, PROT_READ, MAP_SHARED, f.fd, 0), MAP_FAILED);
	assert_ptr_equal(mmap(NULL, f.bytes, PROT_READ, MAP_SHARED, f.fd, PAGE), MAP_FAILED);
	assert_ptr_equal(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, f.fd, 1UL << 40), MAP_FAILED);
	feed_close(&f);
}

TEST(an_event_names_its_thread_range_and_time)
{
	struct feed f;
	const struct invlock_event *e;
	uint64_t before;
	char *p;

	feed_open(&f, 0);
	p = map_aligned(2 * MIB);
	p[0] = 1;
	before = feed_sequence(&f);
	assert_int_equal(munmap(p, PAGE), 0);
	e = feed_find(&f, before, p, PAGE, INVLOCK_KIND_UNMAP);
	assert_non_null(e);
	assert_int_equal(e->start, (unsigned long)p);
	assert_int_equal(e->end, (unsigned long)p + PAGE);
	assert_int_equal(e->tid, syscall(SYS_gettid));
	assert_true(e->time > 0);
	feed_close(&f);
}

TEST(changes_of_protection_are_left_out_until_they_are_asked_for)
{
	struct invlock_feed_see see = {
		.size = sizeof(see),
		.kinds = 1ULL << INVLOCK_KIND_PROTECT,
	};
	uint64_t before;
	struct feed f;
	char *p = map_aligned(2 * MIB);

	p[0] = 1;
	feed_open(&f, 0);
	before = feed_sequence(&f);
	assert_int_equal(mprotect(p, PAGE, PROT_READ), 0);
	assert_null(feed_find(&f, before, p, PAGE, INVLOCK_KIND_PROTECT));
	assert_int_equal(ioctl(f.fd, INVLOCK_FEED_SEE, &see), 0);
	assert_true(see.kinds >> INVLOCK_KIND_UNMAP & see.kinds >> INVLOCK_KIND_PROTECT & 1);
	assert_int_equal(mprotect(p, PAGE, PROT_NONE), 0);
	assert_non_null(feed_find(&f, before, p, PAGE, INVLOCK_KIND_PROTECT));
	assert_true(feed_is_quiet(&f));
	feed_close(&f);
}

/* The pages of the feed are the kernel's, and come back. */
TEST(a_feed_whose_pages_were_discarded_can_still_be_read)
{
	struct feed f;
	uint64_t before;

	feed_open(&f, 0);
	madvise(map_anon(PAGE), PAGE, MADV_DONTNEED);
	before = feed_sequence(&f);
	assert_true(before > 0);
	assert_int_equal(madvise(f.il.feed, f.bytes, MADV_DONTNEED), 0);
	assert_true(feed_sequence(&f) >= before);
	assert_int_equal(port_load(&f.il.words[f.il.word_mask]), f.il.words[f.il.word_mask]);
	feed_close(&f);
}

/* Return: the first word that looks like an address of the kernel; 0 if none does. */
static uint64_t find_kernel_address(const void *memory, size_t bytes)
{
	const uint64_t *word = memory;

	for (size_t i = 0; i < bytes / 8; i++)
		if (word[i] >= 0xffff800000000000ULL && word[i] != INVLOCK_ADDRESS_END)
			return word[i];
	return 0;
}

TEST(no_answer_contains_an_address_of_the_kernel)
{
	uint64_t planted[3] = { 1, 0xffff888001234000ULL, INVLOCK_ADDRESS_END };
	struct invlock_mirror_stats stats;
	struct invlock_feed_see see = { .size = sizeof(see) };
	int mirror = mirror_open();
	struct feed f;
	char *p, byte;

	feed_open(&f, (1ULL << INVLOCK_NR_KINDS) - 1);
	for (unsigned int i = 0; i < 200; i++) {
		p = map_anon((1 + i % 40) * 4 * MIB);
		p[0] = 1;
		mirror_read(mirror, p, &byte, 1);
		mprotect(p, PAGE, PROT_READ);
		madvise(p, PAGE, MADV_DONTNEED);
		munmap(p, (1 + i % 40) * 4 * MIB);
	}
	assert_true(feed_sequence(&f) > 400);
	stats = mirror_stats(mirror);
	assert_int_equal(ioctl(f.fd, INVLOCK_FEED_SEE, &see), 0);
	assert_int_equal(find_kernel_address(f.il.feed, f.bytes), 0);
	assert_int_equal(find_kernel_address(&stats, sizeof(stats)), 0);
	assert_int_equal(find_kernel_address(&see, sizeof(see)), 0);
	/* the search finds an address where there is one */
	assert_int_equal(find_kernel_address(planted, sizeof(planted)), planted[1]);
	close(mirror);
	feed_close(&f);
}

/* Return: the number of events after @since that touch the range. */
static unsigned int count_events(const struct feed *f, uint64_t since, const char *start,
				 size_t len)
{
	unsigned int nr = 0;

	for (uint64_t seq = feed_sequence(f); seq > since; seq--) {
		const struct invlock_event *e = &f->il.events[seq & f->il.event_mask];

		nr += e->seq == seq && e->start < (unsigned long)start + len &&
		      e->end > (unsigned long)start;
	}
	return nr;
}

/*
 * The module decides about the event and the wake-up at once, so the test looks for events. It
 * looks in its own range only: elsewhere, pages may be copied on write meanwhile.
 */
TEST(protection_tracking_and_write_back_wake_nobody)
{
	struct feed f;
	struct pollfd pfd = { .events = POLLIN };
	uint64_t before;
	int memfd = make_memfd(PAGE, 0);
	char *p = map_aligned(2 * MIB), *shared = map_fd(memfd, PAGE, MAP_SHARED);

	/* protect all 2 MiB: to protect a part, the kernel also reports the split of a huge page */
	madvise(p, 2 * MIB, MADV_NOHUGEPAGE);
	p[0] = shared[0] = 1;
	feed_open(&f, 0);
	pfd.fd = f.fd;
	before = feed_sequence(&f);
	assert_int_equal(mprotect(p, 2 * MIB, PROT_READ), 0);
	msync(shared, PAGE, MS_SYNC);
	/* this starts soft-dirty tracking of the whole address space */
	write_file("/proc/self/clear_refs", "4");
	assert_int_equal(count_events(&f, before, p, PAGE), 0);
	assert_int_equal(count_events(&f, before, shared, PAGE), 0);
	/* the feed does record what it is told to */
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	assert_int_equal(count_events(&f, before, p, PAGE), 1);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	feed_close(&f);
	munmap(shared, PAGE);
	close(memfd);
}

#define NR_RECLAIMED	1024
#define RECLAIMED	(NR_RECLAIMED * PAGE)

/* Reclaim until a part of the memory is gone. Return: is it? */
static bool reclaim(char *p)
{
	static unsigned char present[NR_RECLAIMED];

	memset(p, 1, RECLAIMED);
	for (unsigned int try = 0; try < 50; try++) {
		write_file("/sys/fs/cgroup/reclaimed/memory.reclaim", "3M");
		assert_int_equal(mincore(p, RECLAIMED, present), 0);
		if (memchr(present, 0, sizeof(present)))
			return true;
	}
	return false;
}

/* Reclaim leaves pinned pages alone, but the kernel does not tell it from a truncation. */
TEST(reclaim_is_told_as_a_discard)
{
	static const char group[] = "/sys/fs/cgroup/reclaimed";
	unsigned int told;
	struct feed f;
	uint64_t before;
	bool reclaimed;
	char *p, text[32];

	if (mkdir(group, 0755))
		TEST_SKIP("no memory cgroup: %s", strerror(errno));
	snprintf(text, sizeof(text), "%d", getpid());
	assert_true(write_file("/sys/fs/cgroup/reclaimed/cgroup.procs", text));
	p = map_aligned(RECLAIMED);
	madvise(p, RECLAIMED, MADV_NOHUGEPAGE);
	feed_open(&f, 0);
	before = feed_sequence(&f);
	reclaimed = reclaim(p);
	told = count_events(&f, before, p, RECLAIMED);
	feed_close(&f);
	assert_true(write_file("/sys/fs/cgroup/cgroup.procs", text));
	rmdir(group);
	if (!reclaimed)
		TEST_SKIP("this kernel reclaims nothing when it is told to");
	assert_true(told > 0);
}

TEST(a_shrinker_that_truncates_a_file_discards_its_pages)
{
	int memfd = make_memfd(PAGE, 0), drill = drill_open();
	struct drill d = { .addr = memfd, .len = PAGE };
	char *p = page_alone(memfd);
	struct feed f;
	uint64_t before;

	feed_open(&f, 0);
	before = feed_sequence(&f);
	assert_int_equal(drill_do(drill, DRILL_RECLAIM_FILE, &d), 0);
	assert_non_null(feed_find(&f, before, p, PAGE, INVLOCK_KIND_DISCARD));
	feed_close(&f);
	close(drill);
	close(memfd);
}

/*
 * @p has 2 MiB, of which the first MiB is pinned. Use the other MiB, so that the kernel scans both.
 * Return: did a scan remove the mirror's translation of the pinned part?
 */
static bool is_scanned(int mirror, char *p)
{
	time_t end = time(NULL) + 300;
	uint64_t zapped;
	char byte;

	assert_int_equal(mirror_read(mirror, p, &byte, 1), 0);
	zapped = mirror_stats(mirror).zapped;
	while (mirror_stats(mirror).zapped == zapped && time(NULL) < end)
		for (size_t at = MIB; at < 2 * MIB; at += PAGE)
			((volatile char *)p)[at]++;
	return mirror_stats(mirror).zapped > zapped;
}

TEST(the_scan_for_the_node_that_uses_a_page_wakes_no_holder_of_pinned_pages)
{
	struct invlock_feed_see see = {
		.size = sizeof(see),
		.kinds = 1ULL << INVLOCK_KIND_PROTECT,
	};
	char *p = map_aligned(2 * MIB);
	struct invlock_mirror_pin pin = {
		.size = sizeof(pin),
		.addr = (unsigned long)p,
		.len = MIB,
	};
	int mirror = mirror_open();
	bool scanned, told;
	unsigned int untold;
	struct feed f;
	uint64_t before;

	if (!set_numa_scans(true))
		TEST_SKIP("this kernel does not balance NUMA nodes");
	madvise(p, 2 * MIB, MADV_NOHUGEPAGE);
	memset(p, 1, 2 * MIB);
	assert_int_equal(ioctl(mirror, INVLOCK_MIRROR_PIN, &pin), 0);
	feed_open(&f, 0);
	before = feed_sequence(&f);
	scanned = is_scanned(mirror, p);
	untold = count_events(&f, before, p, MIB);
	/* the feed does record the scan once it is told to */
	assert_int_equal(ioctl(f.fd, INVLOCK_FEED_SEE, &see), 0);
	before = feed_sequence(&f);
	scanned &= is_scanned(mirror, p);
	told = feed_find(&f, before, p, PAGE, INVLOCK_KIND_PROTECT);
	assert_true(set_numa_scans(false));
	assert_true(scanned);
	assert_int_equal(untold, 0);
	assert_true(told);
	feed_close(&f);
	close(mirror);
}

TEST(two_opens_in_one_process_see_one_feed)
{
	struct feed one, other;

	feed_open(&one, 0);
	feed_open(&other, 0);
	munmap(map_anon(PAGE), PAGE);
	assert_int_equal(feed_sequence(&one), feed_sequence(&other));
	feed_close(&one);
	munmap(map_anon(PAGE), PAGE);
	assert_true(feed_sequence(&other) > 0);
	feed_close(&other);
}

/* In another process, the same addresses belong to other memory. */
TEST(a_process_is_told_only_of_its_own_changes)
{
	char *p = map_aligned(2 * MIB);
	struct feed f, theirs;
	uint64_t before;
	pid_t child;

	p[0] = 1;
	feed_open(&f, 0);
	before = feed_sequence(&f);
	child = fork_with_us();
	if (!child) {
		feed_open(&theirs, 0);
		before = feed_sequence(&theirs);
		munmap(p, PAGE);
		_exit(!feed_find(&theirs, before, p, PAGE, INVLOCK_KIND_UNMAP));
	}
	assert_int_equal(wait_for(child), 0);
	assert_null(feed_find(&f, before, p, PAGE, INVLOCK_KIND_UNMAP));
	assert_int_equal(p[0], 1);
	feed_close(&f);
}

static void *unmap_page(void *p)
{
	munmap(p, PAGE);
	return (void *)syscall(SYS_gettid);
}

/* This process is the first of its namespace, so elsewhere it has another number than 1. */
static int who_unmapped_in_a_namespace_of_its_own(char *p)
{
	const struct invlock_event *e;
	pthread_t thread;
	struct feed f;
	uint64_t before;
	void *tid;

	feed_open(&f, 0);
	before = feed_sequence(&f);
	if (pthread_create(&thread, NULL, unmap_page, p) || pthread_join(thread, &tid))
		return 1;
	e = feed_find(&f, before, p, PAGE, INVLOCK_KIND_UNMAP);
	if (getpid() != 1 || !e || e->tid == 1 || e->tid != (uintptr_t)tid)
		return 2;
	before = feed_sequence(&f);
	munmap(p + PAGE, PAGE);
	e = feed_find(&f, before, p + PAGE, PAGE, INVLOCK_KIND_UNMAP);
	return !e || e->tid != 1 ? 3 : 0;
}

TEST(an_event_names_a_thread_by_the_number_of_its_own_namespace)
{
	char *p = map_aligned(2 * MIB);
	int status;
	pid_t child;

	memset(p, 1, 2 * PAGE);
	child = fork_with_us();
	if (!child) {
		if (unshare(CLONE_NEWPID))
			_exit(errno == EINVAL ? 77 : 78);
		child = fork_with_us();
		if (!child)
			_exit(who_unmapped_in_a_namespace_of_its_own(p));
		_exit(waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : 79);
	}
	status = wait_for(child);
	if (WEXITSTATUS(status) == 77)
		TEST_SKIP("this kernel has no pid namespaces");
	assert_int_equal(status, 0);
}

TEST(wrong_requests_are_refused)
{
	const struct invlock_feed_see good = { .size = sizeof(good) };
	struct invlock_feed_see see;
	struct feed f;

	feed_open(&f, 0);
#define REFUSED(field, value)						\
do {									\
	see = good;							\
	see.field = (value);						\
	assert_int_equal(ioctl(f.fd, INVLOCK_FEED_SEE, &see), -1);	\
	assert_int_equal(errno, EINVAL);				\
} while (0)
	REFUSED(size, 0);
	REFUSED(size, sizeof(good) + 8);
	REFUSED(reserved, 1);
	REFUSED(feed_size, 1);
	REFUSED(kinds, 1ULL << INVLOCK_NR_KINDS);
#undef REFUSED
	assert_int_equal(ioctl(f.fd, INVLOCK_FEED_SEE, (void *)1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(ioctl(f.fd, _IO('v', 0x3f)), -1);
	assert_int_equal(errno, ENOTTY);
	feed_close(&f);
}

/* Runs in another process. Return: 0 if every use of the file was refused as it should be. */
static int try_in_another_process(const struct feed *f)
{
	struct invlock_feed_see see = { .size = sizeof(see) };
	struct pollfd pfd = { .fd = f->fd, .events = POLLIN };
	unsigned char vec;
	uint64_t sequence;

	if (!ioctl(f->fd, INVLOCK_FEED_SEE, &see) || errno != EPERM)
		return 1;
	if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, f->fd, 0) != MAP_FAILED || errno != EPERM)
		return 2;
	if (read(f->fd, &sequence, sizeof(sequence)) != -1 || errno != EPERM)
		return 3;
	if (poll(&pfd, 1, 0) != 1 || pfd.revents != POLLERR)
		return 4;
	/* the child has not inherited the mapping */
	if (!mincore(f->il.feed, PAGE, &vec) || errno != ENOMEM)
		return 5;
	return 0;
}

TEST(a_forked_child_may_not_use_the_feed)
{
	struct feed f;
	pid_t child;

	feed_open(&f, 0);
	child = fork_with_us();
	if (!child)
		_exit(try_in_another_process(&f));
	assert_int_equal(wait_for(child), 0);
	feed_close(&f);
}

TEST(a_feed_outlives_its_process_and_refuses_all_use)
{
	struct invlock_feed_see see = { .size = sizeof(see) };
	int ready[2], fd, pidfd;
	struct feed f;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork_with_us();
	if (!child) {
		f.fd = open("/dev/invlock", O_RDONLY);
		if (write(ready[1], &f.fd, sizeof(f.fd)) == sizeof(f.fd))
			pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &f.fd, sizeof(f.fd)), sizeof(f.fd));
	pidfd = syscall(SYS_pidfd_open, child, 0);
	fd = syscall(SYS_pidfd_getfd, pidfd, f.fd, 0);
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, INVLOCK_FEED_SEE, &see), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(kill(child, SIGKILL), 0);
	wait_for(child);
	assert_int_equal(ioctl(fd, INVLOCK_FEED_SEE, &see), -1);
	assert_int_equal(errno, EPERM);
	close(fd);
	close(pidfd);
	close(ready[0]);
	close(ready[1]);
}

TEST(the_library_chooses_this_monitor_and_misses_no_change_with_it)
{
	struct invlock_mm_info info = { .size = sizeof(info) };
	unsigned int counts[NR_CHANGE_VERDICTS] = {};
	struct change_result result;
	const struct map_change *change;
	struct invlock_why why;
	struct invlock_mm *mm;
	int err;

	err = invlock_mm_open(NULL, &mm, &why);
	if (err)
		print_message("# %s\n", why.text);
	assert_int_equal(err, 0);
	assert_int_equal(invlock_mm_info(mm, &info), 0);
	assert_string_equal(info.monitor, "kmod");
	for (unsigned int i = 0; (change = map_change_at(i)); i++) {
		bool claimed = info.seen >> change->kind & 1;

		map_change_test(change, mm, &result);
		counts[result.verdict] += claimed || result.verdict == CHANGE_UNKNOWN;
		if (result.verdict == CHANGE_UNKNOWN)
			print_message("# this change cannot be made here: %s: %s\n", change->name,
				      result.reason);
		else if (result.verdict == CHANGE_MISSED)
			print_message("# %s: %s\n", claimed ? "MISSED" :
				      "missed, of a kind that the monitor does not claim to see",
				      change->name);
	}
	print_message("# %u seen, %u missed, %u could not be made\n", counts[CHANGE_SEEN],
		      counts[CHANGE_MISSED], counts[CHANGE_UNKNOWN]);
	assert_int_equal(counts[CHANGE_MISSED], 0);
	assert_true(counts[CHANGE_SEEN] >= 25);
	invlock_mm_close(mm);
}

TEST_MAIN()
