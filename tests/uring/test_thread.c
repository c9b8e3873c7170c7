// SPDX-License-Identifier: MIT
/* Rings that belong to one thread, requests of other threads, and the clearing of dead slots. */
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "rig.h"
#include "tests/threads.h"

/* ---- calls on another thread; only the main thread may assert ---- */

struct foreign {
	struct rig *rig;
	void *buf;
	int way, close, reap, done;
	struct invlock_uring_op op;
};

static void *try_all(void *arg)
{
	struct foreign *f = arg;
	struct io_uring_sqe sqe;

	f->way = invlock_uring_prep_read(f->rig->uring, &sqe, f->rig->fd, f->buf, BUF, 0, &f->op);
	f->done = invlock_uring_done(&f->op);
	f->close = invlock_uring_close(f->rig->uring);
	return NULL;
}

static void *drop(void *arg)
{
	struct foreign *f = arg;

	f->reap = invlock_cache_drop(invlock_uring_cache(f->rig->uring), f->buf, BUF);
	return NULL;
}

static void elsewhere(void *(*run)(void *arg), struct foreign *f)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, run, f), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

TEST(requests_of_another_thread_than_the_rings_go_plain_and_it_cannot_close)
{
	struct foreign f = {};
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", IORING_SETUP_SINGLE_ISSUER, NULL);
	f.rig = &rig;
	f.buf = memory(BUF, 0);
	elsewhere(try_all, &f);
	assert_int_equal(f.way, INVLOCK_URING_THREAD);
	assert_int_equal(f.done, 0);
	assert_int_equal(f.close, -EEXIST);
	/* The adapter works as before. */
	assert_int_equal(read_one(&rig, rig.fd, f.buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(f.buf, 0, BUF));
	rig_close(&rig);
	munmap(f.buf, BUF);
}

TEST(a_slot_that_could_not_be_cleared_is_safe_to_reuse)
{
	struct foreign f = {};
	struct rig rig;
	unsigned char *other = memory(BUF, 0);
	int way;

	RIG_OPEN(&rig, "manual", IORING_SETUP_SINGLE_ISSUER, NULL);
	f.rig = &rig;
	f.buf = memory(BUF, 0);
	assert_int_equal(read_one(&rig, rig.fd, f.buf, BUF, 0, &way), BUF);
	elsewhere(drop, &f);
	assert_int_equal(f.reap, 1);
	assert_int_equal(uring_stats(&rig).uncleared, 1);
	assert_int_equal(uring_stats(&rig).slots_used, 0);
	assert_int_equal(read_one(&rig, rig.fd, other, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(other, MIB, BUF));
	assert_true(holds(f.buf, 0, BUF));
	assert_int_equal(uring_stats(&rig).uncleared, 0);
	rig_close(&rig);
	munmap(f.buf, BUF);
	munmap(other, BUF);
}

TEST(another_thread_may_register_on_a_shared_ring)
{
	struct foreign f = {};
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	f.rig = &rig;
	f.buf = memory(BUF, 0);
	elsewhere(drop, &f);
	assert_int_equal(f.reap, 0);
	elsewhere(try_all, &f);
	assert_int_equal(f.way, INVLOCK_URING_FIXED);
	assert_int_equal(f.done, 0);
	assert_int_equal(f.close, 0);
	/* The other thread has closed it: open it again, so that it can be closed as usual. */
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, NULL, &rig.uring, NULL), 0);
	rig_close(&rig);
	munmap(f.buf, BUF);
}

TEST(a_ring_with_deferred_work_is_served)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, NULL);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, MIB, BUF));
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(a_ring_that_is_enabled_later_is_served)
{
	unsigned char *buf = memory(BUF, 0);
	struct foreign f = { .buf = buf };
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_R_DISABLED, NULL);
	/* liburing 2.3 does not export its function for this */
	assert_int_equal(syscall(SYS_io_uring_register, rig.ring.ring_fd,
				 IORING_REGISTER_ENABLE_RINGS, NULL, 0), 0);
	/* From now on the ring belongs to this thread. */
	f.rig = &rig;
	elsewhere(try_all, &f);
	assert_int_equal(f.way, INVLOCK_URING_THREAD);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, MIB, BUF));
	rig_close(&rig);
	munmap(buf, BUF);
}

/* ---- the reaper ---- */

static const struct invlock_uring_options reaping = {
	.size = sizeof(reaping), .flags = INVLOCK_URING_REAPER, .reap_ms = 1,
};

TEST(the_reaper_clears_the_slots_of_dead_memory)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &reaping);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(uring_stats(&rig).slots_used, 1);
	invlock_manual_start(rig.mm, buf, BUF);
	munmap(buf, BUF);
	invlock_manual_end(rig.mm, buf, BUF);
	/* No call of ours is needed: either the reaper does it, or the test times out. */
	while (uring_stats(&rig).slots_used)
		usleep(1000);
	assert_int_equal(uring_stats(&rig).uncleared, 0);
	rig_close(&rig);
}

TEST(nothing_has_to_be_asked_for_to_have_dead_slots_cleared)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(invlock_uring_close(rig.uring), 0);
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, NULL, &rig.uring, NULL), 0);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	invlock_manual_start(rig.mm, buf, BUF);
	munmap(buf, BUF);
	invlock_manual_end(rig.mm, buf, BUF);
	while (uring_stats(&rig).slots_used)
		usleep(1000);
	rig_close(&rig);
}

TEST(a_single_threaded_ring_has_no_reaper_and_clears_dead_slots_when_it_registers)
{
	unsigned char *buf = memory(BUF, 0), *other = memory(BUF, 0);
	struct pollfd due = { .events = POLLIN };
	struct rig rig;
	int way;

	await_no_thread("invlock-reaper");
	RIG_OPEN(&rig, "manual", IORING_SETUP_SINGLE_ISSUER, &reaping);
	assert_int_equal(threads_named("invlock-reaper", NULL), 0);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	invlock_manual_start(rig.mm, buf, BUF);
	munmap(buf, BUF);
	invlock_manual_end(rig.mm, buf, BUF);
	due.fd = invlock_cache_fd(invlock_uring_cache(rig.uring));
	assert_int_equal(poll(&due, 1, -1), 1);
	assert_int_equal(uring_stats(&rig).slots_used, 1);
	assert_int_equal(read_one(&rig, rig.fd, other, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(other, MIB, BUF));
	/* The dead slot was cleared, and the new one is in use. */
	assert_int_equal(uring_stats(&rig).slots_used, 1);
	assert_int_equal(cache_stats(&rig).dereg_calls, 1);
	assert_int_equal(uring_stats(&rig).uncleared, 0);
	rig_close(&rig);
	munmap(other, BUF);
}

TEST_MAIN(.ends_with_failure = true)
