// SPDX-License-Identifier: MIT
/* Open, close, statistics and fork: what is refused, and how. */
#include "rig.h"

#define NR_RINGS	200

#define OPTIONS(...)	{ .size = sizeof(struct invlock_uring_options), __VA_ARGS__ }

TEST(bad_options_are_refused_with_a_sentence)
{
	const struct invlock_uring_options bad[] = {
		{ .size = 0 },
		{ .size = sizeof(bad[0]) - 1 },
		OPTIONS(.flags = 8),
		OPTIONS(.flags = INVLOCK_URING_REAPER | INVLOCK_URING_NO_REAPER),
		OPTIONS(.slots = 16385),
		OPTIONS(.granule = 12345),
		OPTIONS(.granule = 512),
		OPTIONS(.align = 3),
	};
	struct invlock_uring *uring = (void *)1;
	struct invlock_why why;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(invlock_uring_close(rig.uring), 0);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, &bad[i], &uring, &why),
				 -EINVAL);
		assert_true(strlen(why.text) > 10);
		assert_ptr_equal(uring, (void *)1);
	}
	assert_int_equal(invlock_uring_open(NULL, rig.mm, NULL, &uring, &why), -EINVAL);
	assert_string_equal(why.text, "ring is NULL");
	assert_int_equal(invlock_uring_open(&rig.ring, NULL, NULL, &uring, &why), -EINVAL);
	assert_string_equal(why.text, "mm is NULL");
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, NULL, NULL, &why), -EINVAL);
	assert_string_equal(why.text, "ret_uring is NULL");
	assert_int_equal(invlock_uring_open(NULL, NULL, NULL, NULL, NULL), -EINVAL);
	/* None of the refused opens has left a table behind. */
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, NULL, &rig.uring, &why), 0);
	assert_string_equal(why.text, "");
	rig_close(&rig);
}

TEST(longer_options_of_a_later_version_are_accepted_if_they_ask_for_nothing_new)
{
	struct {
		struct invlock_uring_options known;
		uint64_t later;
	} o = { .known = { .size = sizeof(o), .slots = 7 } };
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, &o.known);
	assert_int_equal(uring_stats(&rig).slots, 7);
	assert_int_equal(invlock_uring_close(rig.uring), 0);
	o.later = 1;
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, &o.known, &rig.uring, NULL),
			 -E2BIG);
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, NULL, &rig.uring, NULL), 0);
	assert_int_equal(uring_stats(&rig).slots, 1024);
	rig_close(&rig);
}

TEST(the_largest_table_can_be_opened)
{
	const struct invlock_uring_options o = OPTIONS(.slots = 16384);
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(a_ring_with_registered_buffers_is_left_alone)
{
	static char own[4096];
	const struct iovec iov = { .iov_base = own, .iov_len = sizeof(own) };
	struct invlock_why why;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	/* A second adapter on the ring is refused for this reason. */
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, NULL, &rig.uring, &why), -EBUSY);
	assert_non_null(strstr(why.text, "registered buffers already"));
	assert_int_equal(invlock_uring_close(rig.uring), 0);
	assert_int_equal(io_uring_register_buffers(&rig.ring, &iov, 1), 0);
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, NULL, &rig.uring, &why), -EBUSY);
	/* The program's own buffers are still registered. */
	assert_int_equal(io_uring_unregister_buffers(&rig.ring), 0);
	assert_int_equal(invlock_uring_open(&rig.ring, rig.mm, NULL, &rig.uring, &why), 0);
	rig_close(&rig);
}

TEST(a_file_that_is_no_ring_is_refused)
{
	struct io_uring none = { .ring_fd = 123456 };
	struct invlock_why why;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(invlock_uring_open(&none, rig.mm, NULL, &rig.uring, &why), -EBADF);
	assert_non_null(strstr(why.text, "1024 slots"));
	rig_close(&rig);
}

/* more than one for each CPU of a large machine */
TEST(a_process_may_have_hundreds_of_rings_with_an_adapter_each)
{
	static struct io_uring rings[NR_RINGS];
	struct invlock_uring *urings[NR_RINGS];
	struct invlock_why why;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	for (int i = 0; i < NR_RINGS; i++) {
		if (io_uring_queue_init(1, &rings[i], 0))
			TEST_SKIP("this machine has no room for %d rings", NR_RINGS);
		assert_int_equal(invlock_uring_open(&rings[i], rig.mm, NULL, &urings[i], &why), 0);
	}
	for (int i = 0; i < NR_RINGS; i++) {
		assert_int_equal(invlock_uring_close(urings[i]), 0);
		io_uring_queue_exit(&rings[i]);
	}
	rig_close(&rig);
}

TEST(two_adapters_on_two_rings_serve_the_same_memory)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig a, b;
	int way;

	RIG_OPEN(&a, "manual", 0, NULL);
	RIG_OPEN(&b, "manual", 0, NULL);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(read_one(&a, a.fd, buf, BUF, i * BUF, &way), BUF);
		assert_int_equal(way, INVLOCK_URING_FIXED);
		assert_true(holds(buf, i * BUF, BUF));
		assert_int_equal(read_one(&b, b.fd, buf, BUF, MIB, &way), BUF);
		assert_int_equal(way, INVLOCK_URING_FIXED);
		assert_true(holds(buf, MIB, BUF));
		/* both adapters must learn of this change */
		replace(&a, buf, BUF);
	}
	assert_int_equal(cache_stats(&a).stale, 3);
	assert_int_equal(cache_stats(&b).stale, 3);
	rig_close(&a);
	assert_int_equal(read_one(&b, b.fd, buf, BUF, 0, &way), BUF);
	assert_true(holds(buf, 0, BUF));
	rig_close(&b);
	munmap(buf, BUF);
}

TEST(null_and_short_arguments_are_refused_or_do_nothing)
{
	struct invlock_uring_stats s = { .size = sizeof(s) }, small = { .size = sizeof(s) - 1 };
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(invlock_uring_close(NULL), 0);
	assert_null(invlock_uring_cache(NULL));
	assert_int_equal(invlock_uring_stats(NULL, &s), -EINVAL);
	assert_int_equal(invlock_uring_stats(rig.uring, NULL), -EINVAL);
	assert_int_equal(invlock_uring_stats(rig.uring, &small), -EINVAL);
	rig_close(&rig);
}

/* ---- fork ---- */

struct inherited {
	struct rig *rig;
	void *buf;
	struct invlock_uring_op *in_flight;
};

static int use_what_the_parent_has(void *arg)
{
	const struct inherited *i = arg;
	struct invlock_uring_stats s = { .size = sizeof(s) };
	struct invlock_uring *uring = i->rig->uring;
	struct invlock_uring_op op;
	struct io_uring_sqe sqe;

	EXPECT(invlock_uring_prep_read(uring, &sqe, 0, i->buf, BUF, 0, &op) == -EOWNERDEAD);
	EXPECT(invlock_uring_prep_write(uring, &sqe, 0, i->buf, 1, 0, &op) == -EOWNERDEAD);
	EXPECT(invlock_uring_stats(uring, &s) == -EOWNERDEAD);
	EXPECT(invlock_uring_done(i->in_flight) == -EOWNERDEAD);
	EXPECT(!invlock_uring_close(uring));
	return 0;
}

TEST(a_forked_childs_adapter_is_dead_and_the_parents_lives)
{
	struct invlock_uring_op op, known;
	struct inherited i;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	i = (struct inherited){ &rig, memory(BUF, 0), &op };
	/* leave something in each table */
	assert_int_equal(prepare(&rig, rig.fd, NULL, BUF, 0, &known), INVLOCK_URING_REFUSED);
	finish(&rig);
	assert_int_equal(prepare(&rig, rig.fd, (void *)4096, BUF, 0, &known),
			 INVLOCK_URING_REFUSED);
	finish(&rig);
	assert_int_equal(prepare(&rig, rig.fd, i.buf, BUF, MIB, &op), INVLOCK_URING_FIXED);
	in_child(use_what_the_parent_has, &i);
	assert_int_equal(uring_stats(&rig).slots_used, 1);
	assert_int_equal(finish(&rig), BUF);
	assert_true(holds(i.buf, MIB, BUF));
	rig_close(&rig);
	munmap(i.buf, BUF);
}

static int open_anew(void *arg)
{
	struct inherited *i = arg;
	unsigned char *buf = i->buf;
	struct rig rig;
	int way;

	EXPECT(!invlock_uring_close(i->rig->uring));
	invlock_mm_close(i->rig->mm);
	EXPECT(!rig_open(&rig, "manual", 0, NULL));
	EXPECT(read_one(&rig, rig.fd, buf, BUF, 0, &way) == BUF);
	EXPECT(way == INVLOCK_URING_FIXED);
	EXPECT(holds(buf, 0, BUF));
	EXPECT(!invlock_uring_close(rig.uring));
	return 0;
}

TEST(a_forked_child_can_open_its_own_adapter)
{
	struct inherited i;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	i = (struct inherited){ .rig = &rig, .buf = memory(BUF, 0) };
	assert_int_equal(read_one(&rig, rig.fd, i.buf, BUF, MIB, NULL), BUF);
	in_child(open_anew, &i);
	assert_true(holds(i.buf, MIB, BUF));
	rig_close(&rig);
	munmap(i.buf, BUF);
}

TEST_MAIN()
