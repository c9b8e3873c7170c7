// SPDX-License-Identifier: MIT
/*
 * Single collisions. delay_us holds a fault between its walk and its commit until the test has
 * changed the map. The device must then see the memory as it is after the change.
 */
#include "queued.h"
#include "reader.h"

/* longer than a test takes, and only a guard against one that hangs */
#define HELD_MS	60000

/*
 * Wait until walk number @n of the device is done, and held. A device that does not check may be
 * done with everything before that.
 */
static void wait_for_walk(struct device_reader *r, unsigned int n)
{
	while (mirror_stats(r->fd).walks < n && !port_load_acquire(&r->done))
		sleep_ms(1);
}

/* Let the walk that is held commit; later walks are not held. */
static void let_go_and_finish(struct device_reader *r)
{
	set_delay_ms(0);
	finish_read(r);
}

static int setup(void **state)
{
	(void)state;
	set_delay_ms(HELD_MS);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	set_delay_ms(0);
	return 0;
}

/* Return: a private page that contains 'a', in stripes of its own. */
static char *page_of_a(void)
{
	char *p = map_aligned(2 * MIB);

	/* a kernel that has no huge pages refuses this */
	madvise(p, 2 * MIB, MADV_NOHUGEPAGE);
	p[0] = 'a';
	return p;
}

static void check_collided_once(struct device_reader *r)
{
	struct invlock_mirror_stats stats;

	let_go_and_finish(r);
	assert_int_equal(r->result, 0);
	assert_int_equal(r->byte, 'b');
	stats = mirror_stats(r->fd);
	assert_int_equal(stats.faults, 1);
	assert_int_equal(stats.collisions, 1);
	assert_int_equal(stats.walks, 2);
	assert_int_equal(stats.slow, 0);
	assert_int_equal(stats.running, 0);
	close(r->fd);
}

TEST(a_discard_between_walk_and_commit_forces_one_retry)
{
	char *p = page_of_a();
	static struct device_reader r;

	start_read(&r, mirror_open(), p, 0);
	wait_for_walk(&r, 1);
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	p[0] = 'b';
	check_collided_once(&r);
}

TEST(a_truncation_between_walk_and_commit_forces_one_retry)
{
	int memfd = make_memfd(PAGE, 0);
	char *p = map_fd(memfd, PAGE, MAP_SHARED);
	static struct device_reader r;

	p[0] = 'a';
	start_read(&r, mirror_open(), p, 0);
	wait_for_walk(&r, 1);
	/* truncation takes no mmap lock */
	assert_int_equal(ftruncate(memfd, 0), 0);
	assert_int_equal(ftruncate(memfd, PAGE), 0);
	assert_int_equal(pwrite(memfd, "b", 1, 0), 1);
	check_collided_once(&r);
	munmap(p, PAGE);
	close(memfd);
}

TEST(a_change_elsewhere_between_walk_and_commit_forces_nothing)
{
	char *p = page_of_a(), *other = page_of_a();
	static struct device_reader r;
	int fd = mirror_open();

	mirror_watch(fd, p, PAGE);
	start_read(&r, fd, p, 0);
	wait_for_walk(&r, 1);
	for (unsigned int i = 0; i < 1000; i++) {
		other[0] = 1;
		assert_int_equal(madvise(other, PAGE, MADV_DONTNEED), 0);
	}
	let_go_and_finish(&r);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.byte, 'a');
	assert_int_equal(mirror_stats(r.fd).collisions, 0);
	if (!lock_sleeps())
		assert_true(mirror_stats(r.fd).starts >= 1000);
	close(r.fd);
}

TEST(a_change_of_mirrored_memory_elsewhere_forces_nothing)
{
	char *p = page_of_a(), *other = page_of_a(), byte;
	int fd = mirror_open();
	static struct device_reader r;

	if (lock_sleeps())
		TEST_SKIP("this mirror sees one range, and all of it");
	set_delay_ms(0);
	assert_int_equal(mirror_read(fd, other, &byte, 1), 0);
	set_delay_ms(HELD_MS);
	start_read(&r, fd, p, 0);
	wait_for_walk(&r, 2);
	assert_int_equal(madvise(other, PAGE, MADV_DONTNEED), 0);
	let_go_and_finish(&r);
	assert_int_equal(r.byte, 'a');
	assert_int_equal(mirror_stats(fd).collisions, 0);
	assert_true(mirror_stats(fd).zapped > 0);
	close(fd);
}

TEST(a_collision_beyond_the_budget_takes_the_slow_path)
{
	char *p = page_of_a();
	struct invlock_mirror_stats stats;
	static struct device_reader r;

	start_read(&r, mirror_open(), p, 1);
	wait_for_walk(&r, 1);
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	p[0] = 'b';
	let_go_and_finish(&r);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.byte, 'b');
	stats = mirror_stats(r.fd);
	assert_int_equal(stats.slow, 1);
	assert_int_equal(stats.collisions, 1);
	/* nothing collided with the walk of the slow path */
	assert_int_equal(stats.locked_walks, 0);
	close(r.fd);
}

TEST(the_slow_path_checks_too)
{
	int memfd = make_memfd(PAGE, 0);
	char *p = map_fd(memfd, PAGE, MAP_SHARED);
	static struct device_reader r;

	p[0] = 'a';
	start_read(&r, mirror_open(), p, 1);
	for (unsigned int walk = 1; walk <= 2; walk++) {
		wait_for_walk(&r, walk);
		/* the second walk holds the mmap lock for writing, but truncation takes none */
		assert_int_equal(ftruncate(memfd, 0), 0);
		assert_int_equal(ftruncate(memfd, PAGE), 0);
		assert_int_equal(pwrite(memfd, walk == 1 ? "a" : "b", 1, 0), 1);
		/* another delay lets go of this walk, and holds the next */
		set_delay_ms(HELD_MS + walk);
	}
	let_go_and_finish(&r);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.byte, 'b');
	assert_int_equal(mirror_stats(r.fd).slow, 1);
	assert_int_equal(mirror_stats(r.fd).collisions, 2);
	close(r.fd);
	munmap(p, PAGE);
	close(memfd);
}

static void discard_page(struct queued_work *w)
{
	w->result = madvise(w->page, PAGE, MADV_DONTNEED);
}

TEST(a_discard_waits_for_a_walk_of_the_slow_path)
{
	static struct queued_work discarder = { .run = discard_page };
	static struct device_reader r;
	char *p;

	/* what is mapped now stays so while the lock is held, but for memory to discard */
	assert_int_equal(mlockall(MCL_CURRENT), 0);
	p = page_of_a();
	discarder.page = page_of_a();
	begin(&discarder);
	start_read(&r, mirror_open(), p, 1);
	wait_for_walk(&r, 1);
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	/* another delay lets go of this walk, and holds the next */
	set_delay_ms(HELD_MS + 1);
	wait_for_walk(&r, 2);
	tell(&discarder);
	/* in an optimistic round it would not have to wait */
	assert_true(blocks(&discarder));
	let_go_and_finish(&r);
	munlockall();
	finish(&discarder);
	assert_int_equal(r.result, 0);
	assert_int_equal(mirror_stats(r.fd).slow, 1);
	close(r.fd);
}

/*
 * Truncate once during each walk. It works if the truncation comes within @delay_ms of the walk.
 * Return: the result of the read.
 */
static int read_what_never_stays_still(unsigned int delay_ms)
{
	int memfd = make_memfd(PAGE, 0);
	char *p = map_fd(memfd, PAGE, MAP_SHARED);
	static struct device_reader r;
	unsigned int walks = 0;

	set_delay_ms(delay_ms);
	start_read(&r, mirror_open(), p, 3);
	/* until there are no more walks */
	for (unsigned int idle = 0; idle < 1000 + delay_ms && walks < 11; idle++) {
		if (mirror_stats(r.fd).walks > walks) {
			walks = mirror_stats(r.fd).walks;
			idle = 0;
			assert_int_equal(ftruncate(memfd, 0), 0);
			assert_int_equal(ftruncate(memfd, PAGE), 0);
		} else {
			sleep_ms(1);
		}
	}
	finish_read(&r);
	if (r.result == -EBUSY) {
		/* exactly 3 optimistic rounds, and 8 rounds of the slow path */
		assert_int_equal(mirror_stats(r.fd).walks, 11);
		assert_int_equal(mirror_stats(r.fd).failed, 1);
	}
	close(r.fd);
	munmap(p, PAGE);
	close(memfd);
	return r.result;
}

TEST(a_range_that_never_stays_still_ends_with_busy)
{
	int result = 0;

	/* on a busy machine a truncation may come too late for its walk: then delay it longer */
	for (unsigned int delay_ms = 20; delay_ms <= 2000 && !result; delay_ms *= 3)
		result = read_what_never_stays_still(delay_ms);
	assert_int_equal(result, -EBUSY);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
