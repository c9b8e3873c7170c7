// SPDX-License-Identifier: MIT
/*
 * One thread replaces the page at an address again and again, and writes a number there, each time
 * a higher one. Other threads read it through the device. A device that acts on a stale translation
 * returns a number from before the read began.
 *
 * The writer has two counters: "change" is odd while it makes a change, and "newest" is a number
 * that has certainly been written. Only the data that the device returns decides.
 */
#include "device.h"

#include <pthread.h>
#include <sched.h>

#include "core/port.h"

#define SECONDS		3
#define MAX_SECONDS	600
#define READERS		2

static struct {
	uint64_t *page;			/* always at the same address */
	int memfd;
	int fd;
	uint64_t change;
	uint64_t newest;
	bool stop;
	unsigned long reads, stale, busy, wrong;	/* atomics */
} storm;

/* Each of these functions makes another page, or an empty one, appear at storm.page. */
static void by_discard(void)
{
	if (madvise(storm.page, PAGE, MADV_DONTNEED))
		storm.wrong++;
}

static void by_new_mapping(void)
{
	if (mmap(storm.page, PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != storm.page)
		storm.wrong++;
}

static void by_moving_another_page_there(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* touch the page, so that there is one to move; 1 is older than any number */
	*(volatile uint64_t *)p = 1;
	if (mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, storm.page) != storm.page)
		storm.wrong++;
}

static void by_truncation(void)
{
	if (ftruncate(storm.memfd, 0) || ftruncate(storm.memfd, PAGE))
		storm.wrong++;
}

static void *read_and_judge(void *arg)
{
	while (!port_load(&storm.stop)) {
		uint64_t change = port_load_acquire(&storm.change);
		uint64_t newest = port_load_acquire(&storm.newest), got = 0;
		int err = mirror_read(storm.fd, storm.page, &got, sizeof(got));

		__atomic_fetch_add(&storm.reads, 1, __ATOMIC_RELAXED);
		if (err == -EBUSY)
			__atomic_fetch_add(&storm.busy, 1, __ATOMIC_RELAXED);
		else if (err && err != -EFAULT)
			__atomic_fetch_add(&storm.wrong, 1, __ATOMIC_RELAXED);
		if (err)
			continue;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		/* 0 and 1 are new memory without a number, which is right only during a change */
		if (got > 1 ? got < newest : !(change & 1) && port_load(&storm.change) == change)
			__atomic_fetch_add(&storm.stale, 1, __ATOMIC_RELAXED);
	}
	return arg;
}

static void change_once(void (*change)(void))
{
	__atomic_fetch_add(&storm.change, 1, __ATOMIC_SEQ_CST);
	change();
	__atomic_store_n(storm.page, storm.newest + 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&storm.newest, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&storm.change, 1, __ATOMIC_SEQ_CST);
}

/* Have enough changes hit a translation or a fault in flight? */
static bool has_met(bool collides)
{
	struct invlock_mirror_stats stats = mirror_stats(storm.fd);

	return port_load(&storm.reads) > 20 && stats.zapped + stats.collisions > 20 &&
	       (!collides || stats.collisions);
}

/*
 * @collides: can the change be made while a fault holds the mmap lock for reading? Then there must
 *	be collisions, or the test means nothing.
 */
static void run_storm(void (*change)(void), bool collides)
{
	pthread_t readers[READERS];
	time_t end;

	set_mirror_us("delay_us", 500);
	storm.fd = mirror_open();
	storm.stop = false;
	storm.change = 0;
	storm.newest = 1;
	storm.reads = storm.stale = storm.busy = storm.wrong = 0;
	/* write the first number before the readers start */
	change_once(change);
	for (unsigned int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&readers[i], NULL, read_and_judge, NULL), 0);
	/* A slow machine takes longer until enough has happened. After a stale read all is said. */
	for (end = time(NULL) + SECONDS; !port_load(&storm.stale) && (time(NULL) < end ||
	     (!has_met(collides) && time(NULL) < end + MAX_SECONDS));) {
		change_once(change);
		sched_yield();
	}
	port_store(&storm.stop, true);
	for (unsigned int i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	print_message("# %llu changes, %lu reads, %llu collisions, %llu slow, %lu busy, "
		      "%lu stale\n",
		      (unsigned long long)storm.change / 2, storm.reads,
		      mirror_stats(storm.fd).collisions, mirror_stats(storm.fd).slow, storm.busy,
		      storm.stale);
	set_delay_ms(0);
	assert_int_equal(storm.stale, 0);
	assert_int_equal(storm.wrong, 0);
	assert_true(has_met(collides));
	assert_int_equal(mirror_stats(storm.fd).running, 0);
	close(storm.fd);
}

static void use_private_memory(void)
{
	storm.page = map_aligned(2 * MIB);
	madvise(storm.page, 2 * MIB, MADV_NOHUGEPAGE);
}

TEST(no_read_is_stale_while_pages_are_discarded)
{
	use_private_memory();
	run_storm(by_discard, true);
}

TEST(no_read_is_stale_while_mappings_are_replaced)
{
	use_private_memory();
	run_storm(by_new_mapping, true);
}

TEST(no_read_is_stale_while_pages_are_moved_in)
{
	use_private_memory();
	run_storm(by_moving_another_page_there, false);
}

TEST(no_read_is_stale_while_a_file_is_truncated)
{
	storm.memfd = make_memfd(PAGE, 0);
	storm.page = map_fd(storm.memfd, PAGE, MAP_SHARED);
	run_storm(by_truncation, true);
	close(storm.memfd);
}

TEST_MAIN()
