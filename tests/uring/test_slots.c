// SPDX-License-Identifier: MIT
/* A slot belongs to a request from prep to done, whatever happens meanwhile. */
#include <pthread.h>

#include "adapters/uring/adapter.h"
#include "core/port.h"
#include "rig.h"

#define SLOTS 4

static const struct invlock_uring_options few = {
	.size = sizeof(few), .slots = SLOTS, .min_len = 1,
};

/* Does everything that can take a buffer's slot back. */
static void take_back(struct rig *rig, void *buf)
{
	assert_true(invlock_cache_drop(invlock_uring_cache(rig->uring), buf, BUF) >= 0);
	assert_true(invlock_cache_reap(invlock_uring_cache(rig->uring)) >= 0);
}

/* Called once, at the moment when a slot is about to be cleared. */
static void (*at_clear)(void *arg);
static void *at_clear_arg;

/* if set, every update succeeds without doing anything */
static u32 no_kernel;

/* Replaces the adapter's function. */
int ring_update(struct io_uring *ring, unsigned int slot, const struct iovec *iovecs,
		unsigned int nr)
{
	void (*call)(void *arg) = at_clear;

	if (port_load(&no_kernel))
		return nr;
	if (call && !iovecs->iov_base) {
		at_clear = NULL;
		call(at_clear_arg);
	}
	return update_buffers(ring, slot, iovecs, nr);
}

TEST(a_request_that_is_not_yet_submitted_keeps_its_slot)
{
	unsigned char *bufs[SLOTS + 2];
	struct invlock_uring_op op;
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &few);
	for (int i = 0; i < SLOTS + 2; i++)
		bufs[i] = memory(BUF, 0xee);
	assert_int_equal(prepare(&rig, rig.fd, bufs[0], BUF, MIB, &op), INVLOCK_URING_FIXED);
	take_back(&rig, bufs[0]);
	assert_int_equal(uring_stats(&rig).slots_used, 1);

	/* other requests use all the remaining slots in turn */
	for (int i = 0; i < 3 * SLOTS; i++) {
		struct invlock_uring_op other;
		struct io_uring_sqe sqe;
		unsigned char *buf = bufs[1 + i % (SLOTS + 1)];

		way = invlock_uring_prep_read(rig.uring, &sqe, rig.fd, buf, BUF, 0, &other);
		assert_int_equal(way, INVLOCK_URING_FIXED);
		assert_int_not_equal(sqe.buf_index, op.slot);
		assert_int_equal(invlock_uring_done(&other), 0);
	}
	assert_true(cache_stats(&rig).evicted > 0);
	assert_int_equal(finish(&rig), BUF);
	assert_true(holds(bufs[0], MIB, BUF));
	rig_close(&rig);
	for (int i = 0; i < SLOTS + 2; i++)
		munmap(bufs[i], BUF);
}

/* What the test above would find if the slot were not kept. */
TEST(a_request_that_is_done_too_early_loses_its_slot)
{
	unsigned char *bufs[2] = { memory(BUF, 0xee), memory(BUF, 0xee) };
	const struct invlock_uring_options o = { .size = sizeof(o), .slots = 1 };
	struct invlock_uring_op early, other;
	struct io_uring_cqe *cqe;
	struct io_uring_sqe sqe;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(prepare(&rig, rig.fd, bufs[0], BUF, 0, &early), INVLOCK_URING_FIXED);
	assert_int_equal(invlock_uring_done(&early), 0);
	assert_int_equal(invlock_uring_prep_read(rig.uring, &sqe, rig.fd, bufs[1], BUF, 0, &other),
			 INVLOCK_URING_FIXED);
	assert_int_equal(invlock_uring_done(&other), 0);
	assert_int_equal(io_uring_submit_and_wait(&rig.ring, 1), 1);
	assert_int_equal(io_uring_peek_cqe(&rig.ring, &cqe), 0);
	assert_int_equal(cqe->res, -EFAULT);
	assert_int_equal(bufs[0][0], 0xee);
	io_uring_cqe_seen(&rig.ring, cqe);
	rig_close(&rig);
	munmap(bufs[0], BUF);
	munmap(bufs[1], BUF);
}

TEST(a_request_that_is_in_flight_keeps_its_slot_and_the_adapter_open)
{
	unsigned char *buf = memory(BUF, 0xee);
	struct invlock_uring_op op;
	struct rig rig;
	int fds[2], way;

	RIG_OPEN(&rig, "manual", 0, &few);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(prepare(&rig, fds[0], buf, BUF, 0, &op), INVLOCK_URING_FIXED);
	assert_int_equal(io_uring_submit(&rig.ring), 1);
	take_back(&rig, buf);
	assert_int_equal(uring_stats(&rig).slots_used, 1);
	assert_int_equal(uring_stats(&rig).in_flight, 1);
	assert_int_equal(invlock_uring_close(rig.uring), -EBUSY);

	/* The adapter works as before. */
	assert_int_equal(write(fds[1], "pipe", 4), 4);
	assert_int_equal(finish(&rig), 4);
	assert_memory_equal(buf, "pipe", 4);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, 0, BUF));
	rig_close(&rig);
	close(fds[0]);
	close(fds[1]);
	munmap(buf, BUF);
}

TEST(a_cancelled_request_gives_its_slot_back_when_its_cqe_says_so)
{
	unsigned char *buf = memory(BUF, 0xee);
	struct invlock_uring_op op;
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	struct rig rig;
	int fds[2], cancelled = 0;

	RIG_OPEN(&rig, "manual", 0, &few);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(prepare(&rig, fds[0], buf, BUF, 0, &op), INVLOCK_URING_FIXED);
	assert_int_equal(io_uring_submit(&rig.ring), 1);
	sqe = io_uring_get_sqe(&rig.ring);
	io_uring_prep_cancel(sqe, &op, 0);
	io_uring_sqe_set_data(sqe, NULL);
	assert_int_equal(io_uring_submit(&rig.ring), 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(io_uring_wait_cqe(&rig.ring, &cqe), 0);
		if (io_uring_cqe_get_data(cqe)) {
			assert_int_equal(invlock_uring_close(rig.uring), -EBUSY);
			assert_int_equal(invlock_uring_done(io_uring_cqe_get_data(cqe)), 0);
			cancelled = cqe->res;
		}
		io_uring_cqe_seen(&rig.ring, cqe);
	}
	assert_int_equal(cancelled, -ECANCELED);
	rig_close(&rig);
	close(fds[0]);
	close(fds[1]);
	munmap(buf, BUF);
}

TEST(when_all_slots_are_in_flight_requests_go_plain_until_one_is_done)
{
	struct invlock_uring_op ops[SLOTS], op;
	unsigned char *bufs[SLOTS + 1];
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &few);
	for (int i = 0; i <= SLOTS; i++)
		bufs[i] = memory(BUF, 0);
	for (int i = 0; i < SLOTS; i++) {
		way = prepare(&rig, rig.fd, bufs[i], BUF, i * BUF, &ops[i]);
		assert_int_equal(way, INVLOCK_URING_FIXED);
	}
	for (int i = 0; i < 10; i++) {
		struct io_uring_sqe sqe;

		way = invlock_uring_prep_read(rig.uring, &sqe, rig.fd, bufs[SLOTS], BUF, 0, &op);
		assert_int_equal(way, INVLOCK_URING_FULL);
		assert_int_equal(sqe.opcode, IORING_OP_READ);
		assert_int_equal(invlock_uring_done(&op), 0);
	}
	/* The cache was asked once, and not for each request. */
	assert_int_equal(cache_stats(&rig).refused_full, 1);
	/* Memory that is registered is still served. */
	assert_int_equal(prepare(&rig, rig.fd, bufs[0], BUF, 0, &op), INVLOCK_URING_FIXED);
	assert_int_equal(invlock_uring_close(rig.uring), -EBUSY);
	for (int i = 0; i <= SLOTS; i++)
		assert_int_equal(finish(&rig), BUF);
	for (int i = 0; i < SLOTS; i++)
		assert_true(holds(bufs[i], i * BUF, BUF));
	assert_int_equal(read_one(&rig, rig.fd, bufs[SLOTS], BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(bufs[SLOTS], MIB, BUF));
	rig_close(&rig);
	for (int i = 0; i <= SLOTS; i++)
		munmap(bufs[i], BUF);
}

TEST(a_request_that_is_done_makes_room_for_one_other)
{
	struct invlock_uring_op ops[SLOTS], op;
	unsigned char *bufs = memory((SLOTS + 1) * BUF, 0);
	struct io_uring_sqe sqe;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, &few);
	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(invlock_uring_prep_read(rig.uring, &sqe, rig.fd, bufs + i * BUF,
							 BUF, 0, &ops[i]), INVLOCK_URING_FIXED);
	for (int i = 0; i < SLOTS; i++) {
		assert_int_equal(invlock_uring_prep_read(rig.uring, &sqe, rig.fd,
							 bufs + SLOTS * BUF, BUF, 0, &op),
				 INVLOCK_URING_FULL);
		assert_int_equal(invlock_uring_done(&op), 0);
		assert_int_equal(invlock_uring_done(&ops[i]), 0);
		assert_int_equal(invlock_uring_prep_read(rig.uring, &sqe, rig.fd,
							 bufs + SLOTS * BUF, BUF, 0, &op),
				 INVLOCK_URING_FIXED);
		assert_int_equal(sqe.buf_index, ops[i].slot);
		assert_int_equal(invlock_uring_done(&op), 0);
		assert_int_equal(invlock_uring_prep_read(rig.uring, &sqe, rig.fd, bufs + i * BUF,
							 BUF, 0, &ops[i]), INVLOCK_URING_FIXED);
	}
	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(invlock_uring_done(&ops[i]), 0);
	rig_close(&rig);
	munmap(bufs, (SLOTS + 1) * BUF);
}

struct second {
	struct rig *rig;
	unsigned char *buf;
	struct invlock_uring_op op;
	int way;
};

static void prepare_second(void *arg)
{
	struct second *s = arg;

	s->way = prepare(s->rig, s->rig->fd, s->buf, BUF, MIB, &s->op);
}

TEST(a_slot_is_not_used_again_before_it_is_cleared)
{
	unsigned char *buf = memory(BUF, 0);
	struct second second = { .buf = memory(BUF, 0xee) };
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &few);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	second.rig = &rig;
	at_clear_arg = &second;
	at_clear = prepare_second;
	take_back(&rig, buf);
	assert_null(at_clear);
	assert_int_equal(second.way, INVLOCK_URING_FIXED);
	/* The delayed clear has not removed the new request's memory. */
	assert_int_equal(finish(&rig), BUF);
	assert_true(holds(second.buf, MIB, BUF));
	rig_close(&rig);
	munmap(buf, BUF);
	munmap(second.buf, BUF);
}

/* ---- registrations on several threads ---- */

#define NR_THREADS	2
#define NR_TURNS	4000000

struct holder {
	struct slots *slots;
	pthread_barrier_t *together;
	u32 *held;		/* for each slot, the number of threads that hold it */
	u64 nr_shared, nr_failed;
};

static void *hold_and_give(void *arg)
{
	struct holder *h = arg;
	uint64_t handle;

	pthread_barrier_wait(h->together);
	for (int i = 0; i < NR_TURNS; i++) {
		u32 *held;

		if (slot_register(h->slots, NULL, 0, &handle)) {
			h->nr_failed++;
			continue;
		}
		held = &h->held[slot_of(handle)];
		h->nr_shared += port_fetch_add(held, 1) != 0;
		port_fetch_add(held, -1);
		slot_clear(h->slots, NULL, 0, handle);
	}
	return NULL;
}

TEST(two_threads_never_hold_one_slot)
{
	struct holder holders[NR_THREADS] = {};
	pthread_t threads[NR_THREADS];
	pthread_barrier_t together;
	u32 held[SLOTS] = {};
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, &few);
	pthread_barrier_init(&together, NULL, NR_THREADS);
	port_store(&no_kernel, 1);
	for (int i = 0; i < NR_THREADS; i++) {
		holders[i].slots = rig.uring->slots;
		holders[i].together = &together;
		holders[i].held = held;
		assert_int_equal(pthread_create(&threads[i], NULL, hold_and_give, &holders[i]), 0);
	}
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	port_store(&no_kernel, 0);
	for (int i = 0; i < NR_THREADS; i++) {
		assert_int_equal(holders[i].nr_shared, 0);
		assert_int_equal(holders[i].nr_failed, 0);
	}
	rig_close(&rig);
}

TEST_MAIN()
