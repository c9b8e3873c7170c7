// SPDX-License-Identifier: MIT
/*
 * Two threads, each with a ring and an adapter of its own, read at depth into far more
 * buffers than there are slots. Each changes the memory of its buffers and reports that. A third
 * thread takes the completions. A fourth makes changes next to the buffers that concern none of
 * them.
 *
 * Only the thread that owns a buffer changes its memory, and only while no request on it is
 * prepared. So a wrong byte is the adapter's fault.
 */
#include <pthread.h>
#include <sched.h>

#include "core/port.h"
#include "rig.h"

#define NR_READERS	2
#define NR_BUFFERS	24
#define NR_SLOTS	6
#define DEPTH		8
#define REQUESTS	20000

struct buffer {
	unsigned char *mem;
	u64 offset;
	int res;
	u32 busy;		/* set from prep to done; the finishing thread clears it */
	struct invlock_uring_op op;
};

struct storm_reader {
	struct rig rig;
	struct buffer buffers[NR_BUFFERS];
	unsigned int seed;
	u64 nr_wrong, nr_failed, nr_changes;
};

static struct storm_reader readers[NR_READERS];

/* The box: requests whose CQE has arrived, for the thread that finishes them. */
static pthread_mutex_t box_lock = PTHREAD_MUTEX_INITIALIZER;
static struct buffer *box[NR_READERS * NR_BUFFERS];
static unsigned int nr_box;
static u32 stop;
static u64 nr_not_done;

static void *finisher(void *arg)
{
	(void)arg;
	for (;;) {
		struct buffer *b = NULL;

		pthread_mutex_lock(&box_lock);
		if (nr_box)
			b = box[--nr_box];
		pthread_mutex_unlock(&box_lock);
		if (b) {
			nr_not_done += invlock_uring_done(&b->op) != 0;
			port_store_release(&b->busy, 0);
		} else if (port_load_acquire(&stop)) {
			return NULL;
		} else {
			usleep(10);
		}
	}
}

static void report_and_change(struct storm_reader *r, struct buffer *b)
{
	static const int kinds = 3;
	int kind = rand_r(&r->seed) % kinds;

	invlock_manual_start(r->rig.mm, b->mem, BUF);
	if (kind == 0)
		madvise(b->mem, BUF, MADV_DONTNEED);
	else if (kind == 1)
		mmap(b->mem, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		     -1, 0);
	else
		/* for a while the memory cannot be registered for reading into it */
		mprotect(b->mem, BUF, PROT_READ);
	invlock_manual_end(r->rig.mm, b->mem, BUF);
	if (kind == 2) {
		struct invlock_uring_op op;
		struct io_uring_sqe sqe;

		/*
		 * Prepared and given up: this enters the memory into the table of refused memory.
		 */
		if (invlock_uring_prep_write(r->rig.uring, &sqe, -1, b->mem, BUF, 0, &op) < 0 ||
		    invlock_uring_done(&op))
			r->nr_failed++;
		invlock_manual_start(r->rig.mm, b->mem, BUF);
		mprotect(b->mem, BUF, PROT_READ | PROT_WRITE);
		invlock_manual_end(r->rig.mm, b->mem, BUF);
	}
	r->nr_changes++;
}

/* Checks what was read, and perhaps changes the memory; the buffer belongs to this thread. */
static void check(struct storm_reader *r, struct buffer *b)
{
	if (b->res != BUF)
		r->nr_failed++;
	else if (!holds(b->mem, b->offset, BUF))
		r->nr_wrong++;
	b->res = 0;
}

static unsigned int prepare_some(struct storm_reader *r, unsigned int nr)
{
	unsigned int prepared = 0;

	for (unsigned int i = 0; i < 2 * NR_BUFFERS && prepared < nr; i++) {
		struct buffer *b = &r->buffers[rand_r(&r->seed) % NR_BUFFERS];
		struct io_uring_sqe *sqe;

		if (port_load_acquire(&b->busy))
			continue;
		if (b->res)
			check(r, b);
		if (rand_r(&r->seed) % 4 == 0)
			report_and_change(r, b);
		memset(b->mem, 0xee, BUF);
		b->offset = rand_r(&r->seed) % ((FILE_SIZE - BUF) / 4096) * 4096;
		port_store(&b->busy, 1);
		sqe = io_uring_get_sqe(&r->rig.ring);
		if (invlock_uring_prep_read(r->rig.uring, sqe, r->rig.fd, b->mem, BUF, b->offset,
					    &b->op) < 0)
			r->nr_failed++;
		io_uring_sqe_set_data(sqe, b);
		prepared++;
	}
	return prepared;
}

/* Waits for a CQE, and hands over each that has arrived. Return: their number */
static unsigned int hand_over(struct storm_reader *r)
{
	struct io_uring_cqe *cqe;
	unsigned int nr = 0;

	if (io_uring_wait_cqe(&r->rig.ring, &cqe))
		return 0;
	do {
		struct buffer *b = io_uring_cqe_get_data(cqe);

		b->res = cqe->res;
		io_uring_cqe_seen(&r->rig.ring, cqe);
		pthread_mutex_lock(&box_lock);
		box[nr_box++] = b;
		pthread_mutex_unlock(&box_lock);
		nr++;
	} while (!io_uring_peek_cqe(&r->rig.ring, &cqe));
	return nr;
}

static void *reader(void *arg)
{
	struct storm_reader *r = arg;
	unsigned int nr = 0, in_flight = 0;

	while (nr < REQUESTS || in_flight) {
		unsigned int prepared = nr < REQUESTS ? prepare_some(r, DEPTH - in_flight) : 0;

		nr += prepared;
		in_flight += prepared;
		if (prepared)
			io_uring_submit(&r->rig.ring);
		if (in_flight)
			in_flight -= hand_over(r);
		else
			sched_yield();
	}
	return NULL;
}

/* Makes changes beside the buffers, which share stripes with them and nothing else. */
static void *neighbour(void *arg)
{
	struct rig *rig = arg;

	while (!port_load_acquire(&stop)) {
		unsigned char *mem = mmap(NULL, BUF, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		invlock_manual_start(rig->mm, mem, BUF);
		munmap(mem, BUF);
		invlock_manual_end(rig->mm, mem, BUF);
		usleep(50);
	}
	return NULL;
}

/* share: the readers' rings share registrations. Return: the number of wrong buffers */
static u64 storm(struct rig *unused, bool share)
{
	const struct invlock_uring_options o = {
		.size = sizeof(o), .reap_ms = 1,
		.flags = INVLOCK_URING_REAPER | (share ? INVLOCK_URING_SHARE : 0),
		.slots = share ? NR_READERS * NR_SLOTS : NR_SLOTS,
	};
	pthread_t threads[NR_READERS], finish_thread, neighbour_thread;
	u64 nr_wrong = 0;

	stop = 0;
	for (unsigned int i = 0; i < NR_READERS; i++) {
		struct storm_reader *r = &readers[i];

		*r = (struct storm_reader){ .seed = i + 1 };
		if (share && i)
			rig_join(&r->rig, &readers[0].rig, 0);
		else
			assert_int_equal(rig_open(&r->rig, "manual", 0, &o), 0);
		for (unsigned int j = 0; j < NR_BUFFERS; j++)
			r->buffers[j].mem = memory(BUF, 0);
	}
	assert_int_equal(pthread_create(&finish_thread, NULL, finisher, NULL), 0);
	assert_int_equal(pthread_create(&neighbour_thread, NULL, neighbour, unused), 0);
	for (unsigned int i = 0; i < NR_READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, reader, &readers[i]), 0);
	for (unsigned int i = 0; i < NR_READERS; i++)
		pthread_join(threads[i], NULL);
	port_store_release(&stop, 1);
	pthread_join(finish_thread, NULL);
	pthread_join(neighbour_thread, NULL);

	assert_int_equal(nr_not_done, 0);
	for (unsigned int i = 0; i < NR_READERS; i++) {
		struct storm_reader *r = &readers[i];
		struct invlock_uring_stats s = uring_stats(&r->rig);

		for (unsigned int j = 0; j < NR_BUFFERS; j++)
			if (r->buffers[j].res)
				check(r, &r->buffers[j]);
		print_message("# %lu fixed, %lu full, %lu refused, %lu changes, %lu wrong\n",
			      s.ways[INVLOCK_URING_FIXED], s.ways[INVLOCK_URING_FULL],
			      s.ways[INVLOCK_URING_REFUSED], (unsigned long)r->nr_changes,
			      (unsigned long)r->nr_wrong);
		assert_int_equal(r->nr_failed, 0);
		assert_true(r->nr_changes > 0);
		assert_true(s.ways[INVLOCK_URING_FIXED] > REQUESTS / 10);
		nr_wrong += r->nr_wrong;
		rig_close(&r->rig);
		for (unsigned int j = 0; j < NR_BUFFERS; j++)
			munmap(r->buffers[j].mem, BUF);
	}
	return nr_wrong;
}

TEST(no_byte_is_wrong_in_a_storm_of_changes)
{
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(storm(&rig, false), 0);
	rig_close(&rig);
}

TEST(no_byte_is_wrong_in_a_storm_of_changes_on_rings_that_share)
{
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(storm(&rig, true), 0);
	rig_close(&rig);
}

TEST_PLANTED(no_check, without_validation_a_storm_on_rings_that_share_brings_wrong_bytes)
{
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_true(storm(&rig, true) > 0);
	rig_close(&rig);
}

TEST_PLANTED(no_check, without_validation_the_same_storm_brings_wrong_bytes)
{
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_true(storm(&rig, false) > 0);
	rig_close(&rig);
}

TEST_MAIN()
