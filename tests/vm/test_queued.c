// SPDX-License-Identifier: MIT
/*
 * A change that needs no mmap lock begins while a fault waits for that lock: after it found its
 * range quiet and before it is in flight. Nothing undoes it then, so it has to look once more.
 */
#include "reader.h"

#define FILE_BYTES	(192 * MIB)	/* so that the hole takes long to punch */
#define MAX_TRIES	60
/* one alone may be a fault that came late, and waited for the change before it did for the lock */
#define MEETINGS	3

static void finish_well(struct reader *r)
{
	finish_read(r);
	assert_int_equal(r->result, 0);
}

/* a fault in the slow path holds the mmap lock for writing from here on, for a while */
static void hold_mmap_lock(struct reader *r, int fd, char *page, unsigned int ms)
{
	unsigned long walks = mirror_stats(fd).walks;

	set_delay_ms(ms);
	assert_int_equal(madvise(page, PAGE, MADV_DONTNEED), 0);
	page[0] = 'a';
	start_read(r, fd, page, 1);
	while (mirror_stats(fd).walks == walks)
		sleep_ms(1);
	/* its only round collides */
	assert_int_equal(madvise(page, PAGE, MADV_DONTNEED), 0);
	while (mirror_stats(fd).walks == walks + 1)
		sleep_ms(1);
	/* it has read its delay by now, or else this try is in vain */
	sleep_ms(20);
	set_delay_ms(0);
}

/* Return: did the fault meet the change? */
static bool try_once(int fd, int memfd, char *file, char *page)
{
	char *last = file + FILE_BYTES - PAGE;
	struct reader holder, reader;
	unsigned long waits;
	char byte;

	for (char *p = file; p < file + FILE_BYTES; p += PAGE)
		*p = 'a';
	/* the device knows nothing of it */
	assert_int_equal(madvise(last, PAGE, MADV_DONTNEED), 0);
	*last = 'a';
	hold_mmap_lock(&holder, fd, page, 100);
	waits = mirror_stats(fd).waits;
	start_read(&reader, fd, last, 0);
	sleep_ms(20);
	assert_int_equal(fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				   FILE_BYTES), 0);
	finish_well(&reader);
	finish_well(&holder);
	/* whatever the read saw: now there is a hole, and the device knows */
	assert_int_equal(mirror_read(fd, last, &byte, 1), 0);
	assert_int_equal(byte, 0);
	return mirror_stats(fd).waits > waits;
}

TEST(a_change_that_began_while_the_mmap_lock_was_waited_for_is_seen)
{
	int fd = mirror_open(), memfd = make_memfd(FILE_BYTES, 0), tries = 0, met = 0;
	char *file = map_fd(memfd, FILE_BYTES, MAP_SHARED);
	char *page = map_aligned(2 * MIB);

	assert_int_equal(madvise(page, 2 * MIB, MADV_NOHUGEPAGE), 0);
	while (met < MEETINGS) {
		met += try_once(fd, memfd, file, page);
		if (++tries == MAX_TRIES)
			fail_msg("in %d tries %d faults met a running change", tries, met);
	}
	munmap(file, FILE_BYTES);
	close(memfd);
	close(fd);
}

TEST_MAIN(
	cmocka_unit_test(a_change_that_began_while_the_mmap_lock_was_waited_for_is_seen))
