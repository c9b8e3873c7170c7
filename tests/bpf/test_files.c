// SPDX-License-Identifier: MIT
/* Pages that leave a mapped file, whichever process removes them. */
#include <fcntl.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include "rig.h"

static struct invlock_mm mm;
static int fd;
static char *stripe;
static char *unseen;

/* Maps a file of one stripe, shared, over stripe_new()'s memory. */
static void map_over(void)
{
	assert_int_equal(ftruncate(fd, STRIPE), 0);
	stripe = stripe_new();
	assert_ptr_equal(mmap(stripe, STRIPE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			      0),
			 stripe);
	memset(stripe, 1, STRIPE);
}

static void open_memfd(void)
{
	fd = memfd_create("invlock-test", MFD_CLOEXEC);
	assert_true(fd >= 0);
}

static void open_disk_file(void)
{
	char path[] = "/var/tmp/invlock-test-XXXXXX";

	fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	unlink(path);
}

static void done(void)
{
	assert_true(feed_quiet(&mm));
	stripe_free(stripe);
	close(fd);
	monitor_close(&mm);
}

static void punch_victim(void)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, VICTIM, GROUP))
		_exit(1);
}

static void cut_before_victim(void)
{
	if (ftruncate(fd, VICTIM))
		_exit(1);
}

static void remove_victim(void)
{
	if (madvise(stripe + VICTIM, GROUP, MADV_REMOVE))
		_exit(1);
}

static void in_child(void (*change)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		change();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* The change removes the victim's pages; the bystander in front of it must stay valid. */
static void expect_victim_stale(void (*change)(void), bool by_child)
{
	struct watched victim, bystander;

	watched_sample(&victim, &mm, stripe + VICTIM);
	watched_sample(&bystander, &mm, stripe + BYSTANDER);
	if (by_child)
		in_child(change);
	else
		change();
	assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	assert_int_equal(watched_verdict(&bystander), INVLOCK_VALID);
	assert_non_null(last_event(&mm, INVLOCK_KIND_TRUNCATE, stripe + VICTIM));
}

TEST(a_hole_punched_in_a_mapped_memfd_makes_its_pages_stale)
{
	monitor_open(&mm);
	open_memfd();
	map_over();
	expect_victim_stale(punch_victim, false);
	done();
}

TEST(a_hole_punched_by_another_process_makes_its_pages_stale)
{
	monitor_open(&mm);
	open_memfd();
	map_over();
	expect_victim_stale(punch_victim, true);
	done();
}

TEST(a_memfd_cut_short_by_another_process_makes_what_was_cut_stale)
{
	monitor_open(&mm);
	open_memfd();
	map_over();
	expect_victim_stale(cut_before_victim, true);
	done();
}

TEST(a_file_on_disk_cut_short_by_another_process_makes_what_was_cut_stale)
{
	monitor_open(&mm);
	open_disk_file();
	map_over();
	expect_victim_stale(cut_before_victim, true);
	done();
}

TEST(a_file_mapped_before_the_monitor_was_opened_is_known)
{
	open_memfd();
	map_over();
	monitor_open(&mm);
	expect_victim_stale(punch_victim, true);
	done();
}

TEST(shared_anonymous_memory_that_a_child_removes_is_stale)
{
	monitor_open(&mm);
	fd = -1;
	stripe = stripe_new();
	assert_ptr_equal(mmap(stripe, STRIPE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0), stripe);
	memset(stripe, 1, STRIPE);
	expect_victim_stale(remove_victim, true);
	done();
}

TEST(a_mapping_that_mremap_moved_is_followed)
{
	char *old, *new = stripe_new();

	monitor_open(&mm);
	open_memfd();
	map_over();
	old = stripe;
	assert_ptr_equal(mremap(old, STRIPE, STRIPE, MREMAP_MAYMOVE | MREMAP_FIXED, new), new);
	stripe = new;
	{
		struct watched victim;

		watched_sample(&victim, &mm, stripe + VICTIM);
		in_child(punch_victim);
		assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	}
	done();
}

TEST(a_change_of_a_file_mapped_twice_makes_both_places_stale)
{
	struct watched first, second;
	char *again;

	monitor_open(&mm);
	open_memfd();
	map_over();
	again = stripe_new();
	assert_ptr_equal(mmap(again, STRIPE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
			 again);
	watched_sample(&first, &mm, stripe + VICTIM);
	watched_sample(&second, &mm, again + VICTIM);
	in_child(punch_victim);
	assert_int_equal(watched_verdict(&first), INVLOCK_STALE);
	assert_int_equal(watched_verdict(&second), INVLOCK_STALE);
	stripe_free(again);
	done();
}

TEST(a_file_that_this_process_does_not_map_is_no_event)
{
	struct watched victim;
	u64 before;
	char *elsewhere;
	int mapped;

	monitor_open(&mm);
	open_memfd();
	map_over();
	watched_sample(&victim, &mm, stripe + VICTIM);
	/* only a child maps this file */
	mapped = memfd_create("invlock-other", MFD_CLOEXEC);
	assert_int_equal(ftruncate(mapped, STRIPE), 0);
	before = mm.il.feed->sequence;
	if (!fork()) {
		elsewhere = mmap(NULL, STRIPE, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
		memset(elsewhere, 1, STRIPE);
		_exit(ftruncate(mapped, 0));
	}
	wait(NULL);
	assert_int_equal(mm.il.feed->sequence - before, 0);
	assert_int_equal(watched_verdict(&victim), INVLOCK_VALID);
	close(mapped);
	done();
}

/* Return: whether the kernel has taken the victim's pages out of the page cache */
static bool reclaim_victim(void)
{
	unsigned char resident[GROUP_PAGES];

	/* the kernel passes over a page that something else looks at at that moment: try again */
	for (int i = 0; i < 100; i++) {
		madvise(stripe + VICTIM, GROUP, MADV_PAGEOUT);
		assert_int_equal(mincore(stripe + VICTIM, GROUP, resident), 0);
		if (!memchr(resident, 1, sizeof(resident)))
			return true;
		nap_ms(10);
	}
	return false;
}

TEST(a_page_of_a_mapped_file_that_the_kernel_reclaims_is_no_event)
{
	struct watched victim;
	u64 before;
	bool gone;

	monitor_open(&mm);
	open_disk_file();
	map_over();
	/* the kernel does not reclaim a page that still has to be written back */
	assert_int_equal(fsync(fd), 0);
	watched_sample(&victim, &mm, stripe + VICTIM);
	before = mm.il.feed->sequence;
	gone = reclaim_victim();
	assert_int_equal(mm.il.feed->sequence - before, 0);
	assert_int_equal(watched_verdict(&victim), INVLOCK_VALID);
	done();
	if (!gone)
		TEST_SKIP("the kernel does not reclaim pages of a file in /var/tmp");
}

TEST(when_the_table_of_files_is_full_every_mapped_file_counts)
{
	struct watched victim;

	monitor_bpf_options.nr_files = 1;
	monitor_open(&mm);
	monitor_bpf_options.nr_files = BPF_NR_FILES;
	/* A table of one file is full: this program and its libraries are several. */
	assert_true(monitor_state(&mm).files_full);
	open_memfd();
	map_over();
	watched_sample(&victim, &mm, stripe + VICTIM);
	in_child(punch_victim);
	assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	done();
}

/* i386 shmat() stores the address where our program does not look: the mapping stays unknown. */
static void map_unseen(int shm)
{
	u32 *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | RAW_MAP_LOW, -1, 0);

	assert_ptr_not_equal(at, MAP_FAILED);
	assert_int_equal(raw_i386(117, 21 /* SHMAT */, shm, 0, (long)at, 0, 0), 0);
	unseen = (char *)(unsigned long)*at;
	memset(unseen, 1, GROUP);
	munmap(at, PAGE);
}

/* A page leaves a file that only a child maps. */
static void lose_page_elsewhere(void)
{
	int other = memfd_create("invlock-other", MFD_CLOEXEC);
	char *page;

	assert_int_equal(ftruncate(other, PAGE), 0);
	if (!fork()) {
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
		page[0] = 1;
		_exit(ftruncate(other, 0));
	}
	wait(NULL);
	close(other);
}

static void remove_unseen(void)
{
	if (madvise(unseen, GROUP, MADV_REMOVE))
		_exit(1);
}

TEST(a_mapping_that_could_not_be_looked_up_is_found_later)
{
	int shm = shmget(IPC_PRIVATE, GROUP, IPC_CREAT | 0600);
	struct watched victim, bystander;
	u64 before;

	if (!RAW_HAS_I386)
		TEST_SKIP("this architecture has no i386 calls");
	assert_true(shm >= 0);
	monitor_open(&mm);
	open_memfd();
	map_over();
	map_unseen(shm);
	assert_int_equal(shmctl(shm, IPC_RMID, NULL), 0);
	/* While a mapping is unknown, any file may be mapped anywhere. */
	watched_sample(&bystander, &mm, stripe + BYSTANDER);
	lose_page_elsewhere();
	assert_int_equal(watched_verdict(&bystander), INVLOCK_STALE);

	assert_int_equal(monitor_bpf_note_missed(&mm), 0);
	assert_int_equal(monitor_state(&mm).nr_unknown, 1);
	assert_int_equal(monitor_state(&mm).nr_found, 1);
	before = mm.il.feed->sequence;
	lose_page_elsewhere();
	assert_int_equal(mm.il.feed->sequence - before, 0);
	/* The lookup has also found the mapping's own file. */
	watched_sample(&victim, &mm, unseen);
	watched_sample(&bystander, &mm, stripe + BYSTANDER);
	in_child(remove_unseen);
	assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	assert_int_equal(watched_verdict(&bystander), INVLOCK_VALID);
	shmdt(unseen);
	done();
}

TEST_MAIN()
