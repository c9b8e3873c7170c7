// SPDX-License-Identifier: MIT
/*
 * A fault has found its range quiet and waits for the mmap lock. A change that needs no mmap lock
 * starts at this moment. The fault is not in flight yet, so the start does not undo it. The fault
 * has to ask again once it has the lock.
 *
 * Two files of drill.ko hold two invalidations for as long as needed: the first is made by a thread
 * that holds the mmap lock, the second is the change in question. While the mmap lock is held, no
 * thread of this program may touch a page that is not mapped.
 */
#include "drill_device.h"
#include "queued.h"

static void take_mmap_lock(struct queued_work *w)
{
	w->result = mprotect(w->page, PAGE, PROT_READ);
}

TEST(a_change_that_started_while_a_fault_waited_for_the_mmap_lock_is_seen)
{
	int lock = drill_open(), change = drill_open();
	/* the kernel calls the newest notifier first: the mirror's, before a drill can hold it */
	int fd = mirror_open(), memfd = make_memfd(PAGE, 0);
	char *page = page_alone(memfd);
	static struct queued_work locker, puncher, reader;
	char byte;

	locker = (struct queued_work){ .run = take_mmap_lock, .page = map_aligned(2 * MIB) };
	puncher = (struct queued_work){ .run = punch_hole, .fd = memfd };
	reader = (struct queued_work){ .run = read_by_device, .fd = fd, .page = page };
	*page = 'a';
	*locker.page = 'a';
	begin(&locker);
	begin(&puncher);
	begin(&reader);
	assert_int_equal(mlockall(MCL_CURRENT), 0);
	drill_hold(lock, locker.page, PAGE, HOLD_US);
	drill_hold(change, page, PAGE, HOLD_US);
	tell(&locker);
	wait_until_held(lock);
	tell(&reader);
	assert_true(blocks(&reader));
	tell(&puncher);
	wait_until_held(change);

	drill_let_go(lock);
	finish(&locker);
	/* it asks again, and waits until its budget is spent, or does not: it ends anyway */
	for (int i = 0; i < 30000 && !__atomic_load_n(&reader.done, __ATOMIC_ACQUIRE); i++)
		sleep_ms(1);
	drill_let_go(change);
	finish(&puncher);
	assert_int_equal(pthread_join(reader.thread, NULL), 0);
	assert_true(!reader.result || reader.result == -EBUSY);
	/* whatever that read saw, a read after the change must see the hole */
	assert_int_equal(mirror_read(fd, page, &byte, 1), 0);
	assert_int_equal(byte, 0);
	assert_true(mirror_stats(fd).waits > 0);
	munlockall();
	close(fd);
	close(memfd);
	close(change);
	close(lock);
}

/*
 * The mirror hears of the change first, and then the drill holds it: the page table is still as it
 * was.
 */
TEST(a_change_drops_what_is_mirrored_and_lets_no_fault_begin_until_it_ends)
{
	int change = drill_open(), fd = mirror_open(), memfd = make_memfd(PAGE, 0);
	char *page = page_alone(memfd), byte;
	static struct queued_work puncher;
	struct invlock_mirror_access access = {
		.op = INVLOCK_MIRROR_READ,
		.addr = (unsigned long)page,
		.len = 1,
		.buffer = (unsigned long)&byte,
		.time_ns = 50000000,
	};

	puncher = (struct queued_work){ .run = punch_hole, .fd = memfd };
	assert_int_equal(mirror_read(fd, page, &byte, 1), 0);
	assert_int_equal(mirror_stats(fd).entries, 1);
	drill_hold(change, page, PAGE, HOLD_US);
	begin(&puncher);
	tell(&puncher);
	wait_until_held(change);
	assert_int_equal(mirror_stats(fd).entries, 0);
	assert_int_equal(mirror_do(fd, &access), -EBUSY);
	assert_int_equal(mirror_stats(fd).walks, 1);
	drill_let_go(change);
	finish(&puncher);
	assert_int_equal(mirror_do(fd, &access), 0);
	close(fd);
	close(memfd);
	close(change);
}

TEST_MAIN(.teardown = let_go_of_everything)
