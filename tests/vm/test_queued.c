// SPDX-License-Identifier: MIT
/*
 * A change that needs no mmap lock begins while a fault waits for that lock: after it found its
 * range quiet and before it is in flight. Nothing undoes it then, so it has to look once more.
 *
 * Two drills hold the two changes for as long as it takes: one that has the mmap lock, and the one
 * that is to be met. While that lock is held nobody here may touch a page that is not there.
 */
#include <pthread.h>

#include "drill_device.h"

#define HOLD_US		60000000	/* longer than the test takes: it lets go of both */

/* on a thread that was there before the lock was taken */
struct work {
	pthread_t thread;
	void (*run)(struct work *w);
	char *page;
	int fd;
	pid_t tid;
	int go, done;		/* atomic */
	char byte;
	int result;
};

static void *run_when_told(void *arg)
{
	struct work *w = arg;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&w->go, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	w->run(w);
	__atomic_store_n(&w->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void begin(struct work *w)
{
	assert_int_equal(pthread_create(&w->thread, NULL, run_when_told, w), 0);
	while (!__atomic_load_n(&w->tid, __ATOMIC_ACQUIRE))
		sleep_ms(1);
}

static void tell(struct work *w)
{
	__atomic_store_n(&w->go, 1, __ATOMIC_RELEASE);
}

static void finish(struct work *w)
{
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	assert_int_equal(w->result, 0);
}

static void take_mmap_lock(struct work *w)
{
	w->result = mprotect(w->page, PAGE, PROT_READ);
}

static void punch_hole(struct work *w)
{
	w->result = fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
}

static void read_by_device(struct work *w)
{
	w->result = mirror_read(w->fd, w->page, &w->byte, 1);
}

/* there is nothing but the mmap lock that this thread can wait for in this state */
static void wait_until_blocked(const struct work *w)
{
	char path[64], stat[256] = "";
	const char *state;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", w->tid);
	do {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = read(fd, stat, sizeof(stat) - 1);

		assert_true(n > 0);
		stat[n] = '\0';
		close(fd);
		sleep_ms(1);
		state = strrchr(stat, ')');
	} while (!state || state[2] != 'D');
}

TEST(a_change_that_began_while_the_mmap_lock_was_waited_for_is_seen)
{
	int lock = drill_open(), change = drill_open();
	/* the last one that is opened is told of a change first: before the drills hold it */
	int fd = mirror_open(), memfd = make_memfd(PAGE, 0);
	char *page = page_alone(memfd);
	struct work locker = { .run = take_mmap_lock, .page = map_aligned(2 * MIB) };
	struct work puncher = { .run = punch_hole, .fd = memfd };
	struct work reader = { .run = read_by_device, .fd = fd, .page = page };
	char byte;

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
	wait_until_blocked(&reader);
	tell(&puncher);
	wait_until_held(change);

	drill_let_go(lock);
	finish(&locker);
	/* one that does not look again is done now */
	for (int i = 0; i < 1000 && !__atomic_load_n(&reader.done, __ATOMIC_ACQUIRE); i++)
		sleep_ms(1);
	drill_let_go(change);
	finish(&puncher);
	assert_int_equal(pthread_join(reader.thread, NULL), 0);
	/* where a millisecond is long, it has given up by now, which is as good */
	assert_true(!reader.result || reader.result == -EBUSY);
	/* whatever the read saw: now there is a hole, and the device knows */
	assert_int_equal(mirror_read(fd, page, &byte, 1), 0);
	assert_int_equal(byte, 0);
	assert_true(mirror_stats(fd).waits > 0);
	munlockall();
	close(fd);
	close(memfd);
	close(change);
	close(lock);
}

TEST_MAIN()
