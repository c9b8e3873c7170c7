// SPDX-License-Identifier: MIT
/*
 * Rings whose descriptor is registered. Each thread has its own number for such a ring, and
 * liburing 2.4 and newer use that number for registrations. These tests make every version do so:
 * if a thread that does not own the ring called liburing, it would reach another ring, or none.
 */
#include <pthread.h>
#include <sys/syscall.h>

#include "rig.h"

#define NR	8

static int as_liburing_does(struct io_uring *ring, unsigned int what, void *arg, unsigned int nr)
{
	bool registered = ring->enter_ring_fd != ring->ring_fd;
	long ret = syscall(SYS_io_uring_register, registered ? ring->enter_ring_fd : ring->ring_fd,
			   registered ? what | 1u << 31 : what, arg, nr);

	return ret < 0 ? -errno : (int)ret;
}

int io_uring_register_buffers_update_tag(struct io_uring *ring, unsigned int off,
					 const struct iovec *iovecs, const __u64 *tags,
					 unsigned int nr)
{
	struct io_uring_rsrc_update2 update = {
		.offset = off, .data = (unsigned long)iovecs, .tags = (unsigned long)tags, .nr = nr,
	};

	return as_liburing_does(ring, IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof(update));
}

int io_uring_register_buffers_sparse(struct io_uring *ring, unsigned int nr)
{
	struct io_uring_rsrc_register table = { .nr = nr, .flags = IORING_RSRC_REGISTER_SPARSE };

	return as_liburing_does(ring, IORING_REGISTER_BUFFERS2, &table, sizeof(table));
}

int io_uring_unregister_buffers(struct io_uring *ring)
{
	return as_liburing_does(ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

/* Opens the rig, and reads through each of NR buffers. */
static void open_and_register(struct rig *rig, unsigned int flags, unsigned char *bufs)
{
	const struct invlock_uring_options o = {
		.size = sizeof(o), .flags = flags, .reap_ms = 1,
	};
	int way;

	RIG_OPEN(rig, "manual", 0, &o);
	if (io_uring_register_ring_fd(&rig->ring) != 1)
		TEST_SKIP("this kernel does not register a ring's descriptor");
	for (int i = 0; i < NR; i++) {
		assert_int_equal(read_one(rig, rig->fd, bufs + i * BUF, BUF, 0, &way), BUF);
		assert_int_equal(way, INVLOCK_URING_FIXED);
	}
}

TEST(the_reaper_clears_the_slots_of_a_ring_whose_descriptor_is_registered)
{
	unsigned char *bufs = memory(NR * BUF, 0);
	struct rig rig;

	open_and_register(&rig, INVLOCK_URING_REAPER, bufs);
	invlock_manual_start(rig.mm, bufs, NR * BUF);
	munmap(bufs, NR * BUF);
	invlock_manual_end(rig.mm, bufs, NR * BUF);
	while (uring_stats(&rig).slots_used)
		usleep(1000);
	assert_int_equal(uring_stats(&rig).uncleared, 0);
	rig_close(&rig);
}

struct second_ring {
	struct rig *first;
	unsigned char *bufs;
	char failed[200];
};

/*
 * A thread that has such a ring of its own does the work of the first adapter. cmocka's asserts do
 * not work in this thread.
 */
static void *reap_for_another(void *arg)
{
	struct second_ring *o = arg;
	struct rig own;
	int way;

	if (rig_open(&own, "manual", 0, NULL) || io_uring_register_ring_fd(&own.ring) != 1) {
		snprintf(o->failed, sizeof(o->failed), "no second ring: %.150s", own.why);
		return NULL;
	}
	for (int i = 0; i < NR; i++)
		if (read_one(&own, own.fd, o->bufs + i * BUF, BUF, 0, &way) != BUF || way)
			snprintf(o->failed, sizeof(o->failed), "read %d before", i);
	invlock_cache_drop(invlock_uring_cache(o->first->uring), o->bufs, NR * BUF);
	if (uring_stats(o->first).uncleared)
		snprintf(o->failed, sizeof(o->failed), "slots of the first ring are not cleared");
	for (int i = 0; i < NR; i++)
		if (read_one(&own, own.fd, o->bufs + i * BUF, BUF, 0, &way) != BUF || way)
			snprintf(o->failed, sizeof(o->failed), "read %d afterwards", i);
	if (invlock_uring_close(o->first->uring))
		snprintf(o->failed, sizeof(o->failed), "the first adapter is not closed");
	for (int i = 0; i < NR; i++)
		if (read_one(&own, own.fd, o->bufs + i * BUF, BUF, 0, &way) != BUF || way)
			snprintf(o->failed, sizeof(o->failed), "read %d after the close", i);
	rig_close(&own);
	return NULL;
}

TEST(a_thread_that_reaps_and_closes_for_another_touches_no_ring_of_its_own)
{
	struct second_ring o = { .bufs = memory(NR * BUF, 0) };
	pthread_t thread;
	struct rig rig;

	open_and_register(&rig, 0, o.bufs);
	o.first = &rig;
	assert_int_equal(pthread_create(&thread, NULL, reap_for_another, &o), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_string_equal(o.failed, "");
	/* The other thread has closed the adapter, and its table: there is room for another one. */
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, NULL, &rig.uring, NULL), 0);
	rig_close(&rig);
	munmap(o.bufs, NR * BUF);
}

TEST(a_ring_without_a_descriptor_is_refused_with_a_sentence)
{
	struct invlock_uring *uring;
	struct invlock_why why;
	struct io_uring ring;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	ring = rig.ring;
	ring.ring_fd = -1;
	assert_int_equal(invlock_uring_open(&ring, rig.mm, NULL, &uring, &why), -EINVAL);
	assert_non_null(strstr(why.text, "no descriptor"));
	ring = rig.ring;
	ring.flags |= 1u << 15;
	assert_int_equal(invlock_uring_open(&ring, rig.mm, NULL, &uring, &why), -EINVAL);
	assert_non_null(strstr(why.text, "IORING_SETUP_REGISTERED_FD_ONLY"));
	rig_close(&rig);
}

TEST_MAIN()
