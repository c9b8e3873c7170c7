// SPDX-License-Identifier: MIT
/* Files that come to be mapped in ways that are hard to see: their pages count, too. */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include "rig.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY	1
#endif

static struct invlock_mm mm;
static int fd = -1;
static char *stripe;	/* a file of one stripe, mapped shared */
static char *elsewhere;	/* private memory that nobody changes */

static void map_file(char *at, size_t len, off_t offset)
{
	assert_ptr_equal(mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset),
			 at);
	memset(at, 1, len);
}

static void open_rig(void)
{
	monitor_open(&mm);
	fd = memfd_create("invlock-test", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, STRIPE), 0);
	stripe = stripe_new();
	elsewhere = stripe_new();
	map_file(stripe, STRIPE, 0);
}

static int close_rig(void **state)
{
	(void)state;
	/* The test was skipped, because the monitor could not be opened. */
	if (!mm.data)
		return 0;
	stripe_free(stripe);
	stripe_free(elsewhere);
	close(fd);
	monitor_close(&mm);
	rig_expects_caught = false;
	mm.data = NULL;
	return 0;
}

/* Fills the table of files: afterwards every mapping is known. */
static void find_files(void)
{
	assert_int_equal(monitor_bpf_note_missed(&mm), 0);
	assert_int_equal(monitor_state(&mm).nr_mapping, 0);
	assert_int_equal(monitor_state(&mm).nr_unknown, monitor_state(&mm).nr_found);
}

static void punch(off_t offset)
{
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, GROUP),
			 0);
}

/* Punches the file's group at an offset; the address where it is mapped must become stale. */
static void expect_stale(char *at, off_t offset)
{
	struct watched w;

	watched_sample(&w, &mm, at);
	punch(offset);
	assert_int_equal(watched_verdict(&w), INVLOCK_STALE);
}

/*
 * A page leaves a file that only a child maps. Return: whether that made our memory stale, as it
 * does when any file's event counts.
 */
static bool any_file_counts(void)
{
	int other = memfd_create("invlock-other", MFD_CLOEXEC);
	struct watched w;
	char *page;

	watched_sample(&w, &mm, elsewhere);
	assert_int_equal(ftruncate(other, PAGE), 0);
	if (!fork()) {
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
		page[0] = 1;
		_exit(ftruncate(other, 0));
	}
	wait(NULL);
	close(other);
	return watched_verdict(&w) == INVLOCK_STALE;
}

TEST(when_all_files_are_known_only_events_of_mapped_ones_count)
{
	open_rig();
	find_files();
	assert_false(any_file_counts());
	expect_stale(stripe + VICTIM, VICTIM);
}

/* ---- while the call that makes the mapping still runs ---- */

/*
 * Afterwards an mremap() of this memory moves the pages and then stays in its call until the
 * userfaultfd is read.
 */
static int hold_moves(char *at, size_t len)
{
	int uffd = hold_open(UFFD_FEATURE_EVENT_REMAP, NULL);

	if (uffd < 0 || hold_memory(uffd, at, len, UFFDIO_REGISTER_MODE_MISSING))
		return -1;
	return uffd;
}

static void *move_away(void *to)
{
	return mremap(stripe, STRIPE, STRIPE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
}

TEST(a_file_counts_at_its_new_place_before_mremap_returns)
{
	struct watched moved;
	pthread_t mover;
	u64 nr_mapping;
	bool counts;
	char *to;
	int uffd;

	open_rig();
	to = stripe_new();
	find_files();
	uffd = hold_moves(stripe, STRIPE);
	if (uffd < 0) {
		stripe_free(to);
		TEST_SKIP("userfaultfd: %s", strerror(errno));
	}
	assert_int_equal(pthread_create(&mover, NULL, move_away, to), 0);
	assert_true(hold_await(uffd, -1));
	nr_mapping = monitor_state(&mm).nr_mapping;
	counts = any_file_counts();
	assert_int_equal(hold_let_go(uffd), UFFD_EVENT_REMAP);
	pthread_join(mover, NULL);
	close(uffd);
	stripe = to;
	assert_int_equal(nr_mapping, 1);
	assert_true(counts);
	assert_int_equal(monitor_state(&mm).nr_mapping, 0);
	assert_false(any_file_counts());
	watched_sample(&moved, &mm, stripe + VICTIM);
	punch(VICTIM);
	assert_int_equal(watched_verdict(&moved), INVLOCK_STALE);
}

/* ---- mappings that are split, replaced or moved before the call returns ---- */

/* pages: reading them from disk takes so long that another thread can split the mapping */
enum { BIG = 16384 };
static char *big;
static bool populating, split_early;	/* atomic */

static void *split_big(void *unused)
{
	(void)unused;
	while (!port_load_acquire(&populating))
		;
	while (!*(volatile char *)big)
		;
	port_store(&split_early, !mprotect(big + BIG / 2 * PAGE, PAGE, PROT_READ));
	return NULL;
}

/* Return: whether another thread split the mapping before mmap() returned */
static bool populate_and_split(int file)
{
	pthread_t thread;
	bool early;

	big = mmap(NULL, BIG * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(big, MAP_FAILED);
	populating = split_early = false;
	assert_int_equal(pthread_create(&thread, NULL, split_big, NULL), 0);
	port_store_release(&populating, true);
	assert_ptr_equal(mmap(big, BIG * PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0), big);
	early = port_load(&split_early);
	pthread_join(thread, NULL);
	return early;
}

static int open_big_file(void)
{
	char path[] = "/var/tmp/invlock-test-XXXXXX";
	int file = mkostemp(path, O_CLOEXEC);
	static char bytes[1 << 20];

	assert_true(file >= 0);
	unlink(path);
	memset(bytes, 1, sizeof(bytes));
	for (unsigned long done = 0; done < BIG * PAGE; done += sizeof(bytes))
		assert_int_equal(write(file, bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(fsync(file), 0);
	return file;
}

TEST(a_mapping_that_was_split_while_it_was_populated_counts_as_a_whole)
{
	struct watched last;
	bool early = false;
	int file;

	open_rig();
	file = open_big_file();
	for (int i = 0; i < 20 && !early; i++) {
		posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
		early = populate_and_split(file);
		if (!early)
			munmap(big, BIG * PAGE);
	}
	if (!early) {
		close(file);
		TEST_SKIP("no thread split the mapping while its pages were read");
	}
	watched_sample(&last, &mm, big + BIG * 3 / 4 * PAGE);
	assert_int_equal(ftruncate(file, BIG * PAGE / 2), 0);
	assert_int_equal(watched_verdict(&last), INVLOCK_STALE);
	/* Once all mappings have been looked up, it is known where the file is mapped. */
	find_files();
	assert_false(any_file_counts());
	munmap(big, BIG * PAGE);
	close(file);
}

TEST(when_mremap_moves_several_mappings_each_counts)
{
	char *to;

	open_rig();
	to = stripe_new();
	find_files();
	/* Another file in the middle splits the mapping into three. */
	assert_ptr_not_equal(mmap(stripe + GROUP, GROUP, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS |
				  MAP_FIXED, -1, 0), MAP_FAILED);
	if (mremap(stripe, STRIPE, STRIPE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
		stripe_free(to);
		TEST_SKIP("this kernel moves one mapping at a time");
	}
	stripe = to;
	expect_stale(stripe + VICTIM, VICTIM);
	find_files();
	assert_false(any_file_counts());
	expect_stale(stripe + VICTIM + GROUP, VICTIM + GROUP);
}

/* The kernel moves the first mapping and then finds one that it may not move. */
TEST(a_mapping_that_a_failed_mremap_has_moved_counts)
{
	char *to, *secret;

	open_rig();
	to = stripe_new();
	find_files();
	secret = stripe + STRIPE - GROUP;
	assert_ptr_not_equal(mmap(secret, GROUP, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				  -1, 0), MAP_FAILED);
	if (hold_moves(secret, GROUP) < 0) {
		stripe_free(to);
		TEST_SKIP("userfaultfd: %s", strerror(errno));
	}
	assert_ptr_equal(mremap(stripe, STRIPE, STRIPE, MREMAP_MAYMOVE | MREMAP_FIXED, to),
			 MAP_FAILED);
	assert_true(any_file_counts());
	find_files();
	assert_false(any_file_counts());
	stripe_free(to);
}

/* ---- calls whose arguments do not tell the address or the length ---- */

TEST(a_segment_that_shmat_attached_counts)
{
	int shm = shmget(IPC_PRIVATE, GROUP, IPC_CREAT | 0600);
	struct watched w;
	char *at;

	open_rig();
	at = shmat(shm, NULL, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	shmctl(shm, IPC_RMID, NULL);
	memset(at, 1, GROUP);
	for (int i = 0; i < 2; i++) {
		watched_sample(&w, &mm, at);
		if (!fork())
			_exit(madvise(at, GROUP, MADV_REMOVE));
		wait(NULL);
		assert_int_equal(watched_verdict(&w), INVLOCK_STALE);
		memset(at, 1, GROUP);
		find_files();
		assert_false(any_file_counts());
	}
	shmdt(at);
}

TEST(a_file_whose_pages_remap_file_pages_moved_counts_at_its_new_place)
{
	open_rig();
	find_files();
	assert_int_equal(syscall(SYS_remap_file_pages, stripe + BYSTANDER, GROUP, 0,
				 VICTIM / PAGE, 0), 0);
	expect_stale(stripe + BYSTANDER, VICTIM);
	memset(stripe + BYSTANDER, 1, GROUP);
	find_files();
	expect_stale(stripe + BYSTANDER, VICTIM);
}

TEST(a_shared_mapping_that_mremap_duplicates_counts_at_both_places)
{
	struct watched first, second;
	char *again;

	open_rig();
	find_files();
	again = mremap(stripe, 0, STRIPE, MREMAP_MAYMOVE);
	assert_ptr_not_equal(again, MAP_FAILED);
	watched_sample(&first, &mm, stripe + VICTIM);
	watched_sample(&second, &mm, again + VICTIM);
	punch(VICTIM);
	assert_int_equal(watched_verdict(&first), INVLOCK_STALE);
	assert_int_equal(watched_verdict(&second), INVLOCK_STALE);
	munmap(again, STRIPE);
}

/* The ring of aio is a file, which root can open through /proc and truncate. */
TEST(the_ring_of_an_aio_context_counts)
{
	aio_context_t ctx = 0;
	struct watched ring;
	char path[64];
	int file;

	open_rig();
	if (syscall(SYS_io_setup, 1024, &ctx))
		TEST_SKIP("io_setup: %s", strerror(errno));
	watched_sample(&ring, &mm, (char *)ctx);
	for (unsigned long pages = 1; pages < 100; pages++) {
		snprintf(path, sizeof(path), "/proc/self/map_files/%llx-%llx",
			 (unsigned long long)ctx, (unsigned long long)ctx + pages * PAGE);
		file = open(path, O_RDWR | O_CLOEXEC);
		if (file >= 0)
			break;
	}
	if (file < 0 || ftruncate(file, 0)) {
		syscall(SYS_io_destroy, ctx);
		TEST_SKIP("%s: %s", path, strerror(errno));
	}
	assert_int_equal(watched_verdict(&ring), INVLOCK_STALE);
	close(file);
	syscall(SYS_io_destroy, ctx);
}

/* ---- a look at a range before it is cached finds mappings that no call has announced ---- */

static void look(const char *at, size_t len)
{
	struct look found;

	assert_int_equal(mm.monitor->look(&mm, (u64)at, (u64)at + len, &found), MAPPED_GOOD);
}

TEST(a_look_finds_no_mapping_that_the_calls_had_not_announced)
{
	int shm = shmget(IPC_PRIVATE, GROUP, IPC_CREAT | 0600);
	char *to, *segment;

	open_rig();
	to = stripe_new();
	look(stripe, STRIPE);
	assert_ptr_equal(mremap(stripe, STRIPE, STRIPE, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	stripe = to;
	look(stripe, STRIPE);
	mprotect(stripe + VICTIM, PAGE, PROT_READ);
	look(stripe, STRIPE);
	segment = shmat(shm, NULL, 0);
	shmctl(shm, IPC_RMID, NULL);
	look(segment, GROUP);
	shmdt(segment);
	map_file(elsewhere, GROUP, VICTIM);
	look(elsewhere, GROUP);
	assert_int_equal(monitor_state(&mm).nr_found_late, 0);
	assert_int_equal(mm.il.feed->lost, 0);
}

/* ---- files that seem to be unmapped for a moment, or whose address was reused ---- */

static bool stop;	/* atomic */

/* Makes a mapping longer over and over: each time the kernel takes it out of its file's tree. */
static void *grow(void *unused)
{
	(void)unused;
	while (!port_load(&stop)) {
		mmap(stripe + STRIPE - GROUP, PAGE, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_FIXED_NOREPLACE, fd, STRIPE - GROUP);
		munmap(stripe + STRIPE - GROUP, PAGE);
	}
	return NULL;
}

/* sampled until it works: the other thread's calls keep the stripe's words moving */
static void sample(struct watched *w, char *at)
{
	*w = (struct watched){ .mm = &mm, .at = at };
	while (invlock_sample(&mm.il, (u64)at, (u64)at + GROUP, &w->snap) == -EAGAIN)
		;
}

TEST(a_hole_is_seen_while_the_only_mapping_of_its_file_grows)
{
	pthread_t grower;
	int punches[2], done[2], valid = 0;
	pid_t child;
	char byte;

	open_rig();
	/* while the mapping is out of the tree, the net catches the hole: net.h */
	rig_expects_caught = true;
	munmap(stripe + STRIPE - GROUP, GROUP);
	assert_int_equal(pipe(punches), 0);
	assert_int_equal(pipe(done), 0);
	child = fork();
	if (!child) {
		/* a child's own copy of the mapping would stay in the file's tree */
		munmap(stripe, STRIPE);
		close(punches[1]);
		while (read(punches[0], &byte, 1) == 1) {
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, VICTIM);
			if (write(done[1], &byte, 1) != 1)
				break;
		}
		_exit(0);
	}
	port_store(&stop, false);
	assert_int_equal(pthread_create(&grower, NULL, grow, NULL), 0);
	for (int round = 0; round < 200; round++) {
		struct watched group[VICTIM_GROUPS];

		memset(stripe, 1, VICTIM);
		for (unsigned int i = 0; i < VICTIM / GROUP; i++)
			sample(&group[i], stripe + i * GROUP);
		if (write(punches[1], "", 1) != 1 || read(done[0], &byte, 1) != 1)
			break;
		for (unsigned int i = 0; i < VICTIM / GROUP; i++)
			valid += watched_verdict(&group[i]) != INVLOCK_STALE;
	}
	port_store(&stop, true);
	pthread_join(grower, NULL);
	close(punches[1]);
	waitpid(child, NULL, 0);
	close(punches[0]);
	close(done[0]);
	close(done[1]);
	assert_int_equal(valid, 0);
}

/*
 * Maps a page of a new file and truncates it. The new file's inode may lie where one of ours was.
 */
static void cut_new_files(void)
{
	for (int i = 0; i < 20; i++) {
		int file = memfd_create("invlock-other", MFD_CLOEXEC);
		char *page;

		if (ftruncate(file, PAGE))
			_exit(1);
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		page[0] = 1;
		if (ftruncate(file, 0))
			_exit(1);
	}
	_exit(0);
}

TEST(a_file_that_is_gone_is_not_confused_with_a_later_one)
{
	cpu_set_t one, all;
	int lost = 0;

	open_rig();
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	/* Stay on one CPU: the kernel hands out again what this CPU has freed. */
	sched_setaffinity(0, sizeof(one), &one);
	for (int i = 0; i < 20; i++) {
		int file = memfd_create("invlock-gone", MFD_CLOEXEC);
		struct watched w;

		assert_int_equal(ftruncate(file, GROUP), 0);
		assert_ptr_equal(mmap(stripe, GROUP, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				      file, 0), stripe);
		stripe[0] = 1;
		assert_ptr_equal(mmap(stripe, GROUP, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), stripe);
		close(file);
		/* the kernel frees the inode a grace period later */
		nap_ms(30);
		watched_sample(&w, &mm, stripe);
		if (!fork())
			cut_new_files();
		wait(NULL);
		lost += watched_verdict(&w) != INVLOCK_VALID;
	}
	sched_setaffinity(0, sizeof(all), &all);
	assert_int_equal(lost, 0);
}

TEST_MAIN(.teardown = close_rig)
