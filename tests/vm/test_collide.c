// SPDX-License-Identifier: MIT
/*
 * Collisions, one by one: a fault is held between its walk and its commit, and the map is
 * changed there. The device must then see the memory as it is, not as it was walked.
 */
#include "reader.h"

#define DELAY_MS	200

/* its walk number @n is done and its commit not yet, for DELAY_MS */
static void wait_for_walk(int fd, unsigned int n)
{
	while (mirror_stats(fd).walks < n)
		sleep_ms(1);
}

static int setup(void **state)
{
	(void)state;
	set_delay_ms(DELAY_MS);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	set_delay_ms(0);
	return 0;
}

/* one private page with 'a' in it, away from everything else */
static char *page_of_a(void)
{
	char *p = map_aligned(2 * MIB);

	assert_int_equal(madvise(p, 2 * MIB, MADV_NOHUGEPAGE), 0);
	p[0] = 'a';
	return p;
}

static void check_collided_once(struct reader *r)
{
	struct invlock_mirror_stats stats = mirror_stats(r->fd);

	finish_read(r);
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
	struct reader r;

	start_read(&r, mirror_open(), p, 0);
	wait_for_walk(r.fd, 1);
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	p[0] = 'b';
	check_collided_once(&r);
}

TEST(a_truncation_between_walk_and_commit_forces_one_retry)
{
	int memfd = make_memfd(PAGE, 0);
	char *p = map_fd(memfd, PAGE, MAP_SHARED);
	struct reader r;

	p[0] = 'a';
	start_read(&r, mirror_open(), p, 0);
	wait_for_walk(r.fd, 1);
	/* takes no mmap lock */
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
	struct reader r;

	start_read(&r, mirror_open(), p, 0);
	wait_for_walk(r.fd, 1);
	for (unsigned int i = 0; i < 1000; i++) {
		other[0] = 1;
		assert_int_equal(madvise(other, PAGE, MADV_DONTNEED), 0);
	}
	finish_read(&r);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.byte, 'a');
	assert_int_equal(mirror_stats(r.fd).collisions, 0);
	assert_true(mirror_stats(r.fd).starts >= 1000);
	close(r.fd);
}

TEST(a_change_of_mirrored_memory_elsewhere_forces_nothing)
{
	char *p = page_of_a(), *other = page_of_a(), byte;
	int fd = mirror_open();
	struct reader r;

	set_delay_ms(0);
	assert_int_equal(mirror_read(fd, other, &byte, 1), 0);
	set_delay_ms(DELAY_MS);
	start_read(&r, fd, p, 0);
	wait_for_walk(fd, 2);
	assert_int_equal(madvise(other, PAGE, MADV_DONTNEED), 0);
	finish_read(&r);
	assert_int_equal(r.byte, 'a');
	assert_int_equal(mirror_stats(fd).collisions, 0);
	assert_true(mirror_stats(fd).zapped > 0);
	close(fd);
}

TEST(a_collision_beyond_the_budget_takes_the_slow_path)
{
	char *p = page_of_a();
	struct invlock_mirror_stats stats;
	struct reader r;

	start_read(&r, mirror_open(), p, 1);
	wait_for_walk(r.fd, 1);
	assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
	p[0] = 'b';
	finish_read(&r);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.byte, 'b');
	stats = mirror_stats(r.fd);
	assert_int_equal(stats.slow, 1);
	assert_int_equal(stats.collisions, 1);
	assert_int_equal(stats.locked_walks, 1);
	close(r.fd);
}

TEST(the_slow_path_checks_too)
{
	int memfd = make_memfd(PAGE, 0);
	char *p = map_fd(memfd, PAGE, MAP_SHARED);
	struct reader r;

	p[0] = 'a';
	start_read(&r, mirror_open(), p, 1);
	for (unsigned int walk = 1; walk <= 2; walk++) {
		wait_for_walk(r.fd, walk);
		/* the second walk has the mmap lock for writing, and this does not need it */
		assert_int_equal(ftruncate(memfd, 0), 0);
		assert_int_equal(ftruncate(memfd, PAGE), 0);
		assert_int_equal(pwrite(memfd, walk == 1 ? "a" : "b", 1, 0), 1);
	}
	finish_read(&r);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.byte, 'b');
	assert_int_equal(mirror_stats(r.fd).slow, 1);
	assert_int_equal(mirror_stats(r.fd).collisions, 2);
	close(r.fd);
	munmap(p, PAGE);
	close(memfd);
}

/* one truncation in each walk, so long as it comes within @delay_ms. Return: the answer */
static int read_what_never_stays_still(unsigned int delay_ms)
{
	int memfd = make_memfd(PAGE, 0);
	char *p = map_fd(memfd, PAGE, MAP_SHARED);
	struct reader r;
	unsigned int walks = 0;

	set_delay_ms(delay_ms);
	start_read(&r, mirror_open(), p, 3);
	/* until no walk comes any more */
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
		/* 3 rounds beside the others and 8 more in the slow path: not one more */
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

	/* on a busy machine a truncation may come too late for its walk: a longer one then */
	for (unsigned int delay_ms = 20; delay_ms <= 2000 && !result; delay_ms *= 3)
		result = read_what_never_stays_still(delay_ms);
	assert_int_equal(result, -EBUSY);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
