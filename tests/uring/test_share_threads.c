// SPDX-License-Identifier: MIT
/* Rings of several threads that share registrations, while the memory changes. */
#include <pthread.h>

#include "rig.h"

#define NR_THREADS	4
#define NR_BUFFERS	4
#define NR_ROUNDS	3000

struct joiner {
	struct rig *first, own;
	unsigned char *bufs[NR_BUFFERS];
	unsigned int seed;
	pthread_barrier_t *together;
	unsigned int nr_fixed, nr_wrong;
	char failed[200];
};

/* Other pages, at the same address. */
static void change(struct joiner *j, void *buf)
{
	invlock_manual_start(j->own.mm, buf, BUF);
	if (mmap(buf, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != buf)
		snprintf(j->failed, sizeof(j->failed), "mmap");
	invlock_manual_end(j->own.mm, buf, BUF);
}

static void read_and_change(struct joiner *j)
{
	for (int i = 0; i < NR_ROUNDS; i++) {
		unsigned char *buf = j->bufs[rand_r(&j->seed) % NR_BUFFERS];
		int way;

		memset(buf, 0xee, BUF);
		if (read_one(&j->own, j->own.fd, buf, BUF, i % 64 * 4096, &way) != BUF)
			snprintf(j->failed, sizeof(j->failed), "read %d", i);
		j->nr_wrong += !holds(buf, i % 64 * 4096, BUF);
		j->nr_fixed += way == INVLOCK_URING_FIXED;
		if (rand_r(&j->seed) % 4 == 0)
			change(j, buf);
	}
}

/* A ring that belongs to this thread. cmocka's asserts do not work here. */
static void *join_and_read(void *arg)
{
	struct joiner *j = arg;
	int err = rig_try_join(&j->own, j->first, IORING_SETUP_SINGLE_ISSUER);

	pthread_barrier_wait(j->together);
	if (err) {
		snprintf(j->failed, sizeof(j->failed), "join: %.150s", j->own.why);
		return NULL;
	}
	read_and_change(j);
	if (invlock_uring_close(j->own.uring))
		snprintf(j->failed, sizeof(j->failed), "close");
	invlock_mm_close(j->own.mm);
	io_uring_queue_exit(&j->own.ring);
	close(j->own.fd);
	return NULL;
}

TEST(threads_with_rings_of_their_own_read_every_byte_right_while_memory_changes)
{
	/* fewer slots than buffers, so that what dies on one ring is soon another's slot */
	const struct invlock_uring_options few = {
		.size = sizeof(few), .flags = INVLOCK_URING_SHARE, .reap_ms = 1, .align = 1,
		.slots = 2 * NR_THREADS,
	};
	struct joiner joiners[NR_THREADS] = {};
	pthread_t threads[NR_THREADS];
	pthread_barrier_t together;
	struct rig first, second;

	RIG_OPEN(&first, "manual", 0, &few);
	rig_join(&second, &first, 0);
	if (uring_stats(&first).sharing != 2) {
		rig_close(&second);
		rig_close(&first);
		TEST_SKIP("this kernel does not copy single slots: before 6.13");
	}
	pthread_barrier_init(&together, NULL, NR_THREADS);
	for (int i = 0; i < NR_THREADS; i++) {
		joiners[i] = (struct joiner){
			.first = &first, .seed = i + 1, .together = &together,
		};
		for (int b = 0; b < NR_BUFFERS; b++)
			joiners[i].bufs[b] = memory(BUF, 0);
		assert_int_equal(pthread_create(&threads[i], NULL, join_and_read, &joiners[i]), 0);
	}
	for (int i = 0; i < NR_THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_string_equal(joiners[i].failed, "");
		assert_int_equal(joiners[i].nr_wrong, 0);
		assert_true(joiners[i].nr_fixed > NR_ROUNDS / 2);
		for (int b = 0; b < NR_BUFFERS; b++)
			munmap(joiners[i].bufs[b], BUF);
	}
	/* they have left */
	assert_int_equal(uring_stats(&first).sharing, 2);
	rig_close(&second);
	rig_close(&first);
}

TEST_MAIN()
