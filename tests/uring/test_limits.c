// SPDX-License-Identifier: MIT
/* Limits in bytes: the program's own, and RLIMIT_MEMLOCK without CAP_IPC_LOCK. */
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "rig.h"

TEST(max_bytes_that_are_all_in_flight_mean_plain)
{
	const struct invlock_uring_options o = { .size = sizeof(o), .max_bytes = 2 * BUF };
	struct invlock_uring_op ops[3];
	unsigned char *buf = memory(4 * BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(uring_stats(&rig).max_bytes, 2 * BUF);
	/* a request for more bytes than the limit can never be fixed */
	assert_int_equal(read_one(&rig, rig.fd, buf, 3 * BUF, 0, &way), 3 * BUF);
	assert_int_equal(way, INVLOCK_URING_LARGE);
	assert_true(holds(buf, 0, 3 * BUF));

	for (int i = 0; i < 3; i++)
		assert_int_equal(prepare(&rig, rig.fd, buf + i * BUF, BUF, i * BUF, &ops[i]),
				 i < 2 ? INVLOCK_URING_FIXED : INVLOCK_URING_FULL);
	assert_true(cache_stats(&rig).bytes <= 2 * BUF);
	for (int i = 0; i < 3; i++)
		assert_int_equal(finish(&rig), BUF);
	assert_true(holds(buf, 0, 3 * BUF));
	assert_int_equal(read_one(&rig, rig.fd, buf + 3 * BUF, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(cache_stats(&rig).bytes <= 2 * BUF);
	rig_close(&rig);
	munmap(buf, 4 * BUF);
}

TEST(a_request_whose_granules_find_no_room_is_registered_alone)
{
	/* Rounded to the granule, two buffers are more than the limit. */
	const struct invlock_uring_options o = {
		.size = sizeof(o), .max_bytes = 3 * BUF, .granule = 2 * BUF,
	};
	unsigned char *mem = memory(6 * BUF, 0);
	unsigned char *buf = (void *)(((uintptr_t)mem + 2 * BUF - 1) & -2 * BUF);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(read_one(&rig, rig.fd, buf + BUF, 2 * BUF, 0, &way), 2 * BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf + BUF, 0, 2 * BUF));
	assert_int_equal(cache_stats(&rig).bytes, 2 * BUF);
	rig_close(&rig);
	munmap(mem, 6 * BUF);
}

/* ---- without CAP_IPC_LOCK: in a child, where cmocka's asserts do not work ---- */

static bool give_up_lock_rights(rlim_t limit)
{
	struct rlimit memlock = { .rlim_cur = limit, .rlim_max = limit };
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {};

	if (setrlimit(RLIMIT_MEMLOCK, &memlock) || syscall(SYS_capget, &header, caps))
		return false;
	caps[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
	if (syscall(SYS_capset, &header, caps))
		return false;
	/* Locked memory is counted for each user: if possible, be a user that nobody else is. */
	return geteuid() || !setuid(61000 + getpid() % 1000) || errno == EINVAL;
}

struct limited {
	rlim_t limit;
	uint64_t max_bytes;
};

static struct rig rig;

static int open_limited(const struct limited *l)
{
	const struct invlock_uring_options o = { .size = sizeof(o), .max_bytes = l->max_bytes };

	EXPECT(give_up_lock_rights(l->limit));
	EXPECT(!rig_open(&rig, "manual", 0, &o));
	return 0;
}

static int way_of_a_read(unsigned char *buf, size_t len, uint64_t offset)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig.ring);
	struct invlock_uring_op op;
	struct io_uring_cqe *cqe;
	int way;

	memset(buf, 0xee, len);
	way = invlock_uring_prep_read(rig.uring, sqe, rig.fd, buf, len, offset, &op);
	io_uring_sqe_set_data(sqe, &op);
	if (io_uring_submit_and_wait(&rig.ring, 1) != 1 || io_uring_peek_cqe(&rig.ring, &cqe) ||
	    cqe->res != (int)len || !holds(buf, offset, len) || invlock_uring_done(&op))
		return -1;
	io_uring_cqe_seen(&rig.ring, cqe);
	return way;
}

static struct invlock_uring_stats stats_now(void)
{
	struct invlock_uring_stats s = { .size = sizeof(s) };

	invlock_uring_stats(rig.uring, &s);
	return s;
}

/*
 * Does the kernel give room back at once when a slot is cleared? Before Linux 6.4 it does so up to
 * a second later.
 */
static int find_out_when_room_is_back(rlim_t limit, bool *ret_at_once)
{
	/* more than half of it, and the ring takes a few pages */
	size_t len = limit / 4 * 3;
	void *buf = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct iovec most = { .iov_base = buf, .iov_len = len }, empty = {};
	struct io_uring ring;

	madvise(buf, len, MADV_NOHUGEPAGE);
	EXPECT(!io_uring_queue_init(1, &ring, 0));
	EXPECT(!io_uring_register_buffers_sparse(&ring, 1));
	EXPECT(update_buffers(&ring, 0, &most, 1) == 1);
	EXPECT(update_buffers(&ring, 0, &empty, 1) == 1);
	*ret_at_once = update_buffers(&ring, 0, &most, 1) == 1;
	/* this waits until the room is back */
	EXPECT(!io_uring_unregister_buffers(&ring));
	io_uring_queue_exit(&ring);
	munmap(buf, len);
	return 0;
}

/* More buffers than fit take turns. */
static int live_within(void *arg)
{
	const struct limited *l = arg;
	unsigned char *buf;
	bool at_once;
	int way;

	EXPECT(!open_limited(l));
	EXPECT(!find_out_when_room_is_back(l->limit, &at_once));
	EXPECT(stats_now().max_bytes == l->limit);
	buf = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(buf, MIB, MADV_NOHUGEPAGE);
	for (int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < MIB / BUF; i++) {
			way = way_of_a_read(buf + i * BUF, BUF, i * BUF);
			EXPECT(way == INVLOCK_URING_FIXED ||
			       (way == INVLOCK_URING_MEMLOCK && !at_once));
		}
	}
	/* one request for more than the limit */
	EXPECT(way_of_a_read(buf, l->limit + 4096, 0) == INVLOCK_URING_MEMLOCK);
	EXPECT(!invlock_uring_close(rig.uring));
	return 0;
}

TEST(rlimit_memlock_is_the_limit_without_the_right_to_lock_more)
{
	struct limited l = { .limit = 256 * KIB };

	RIG_OPEN(&rig, "manual", 0, NULL);
	rig_close(&rig);
	in_child(live_within, &l);
}

/* The program promised more than it may lock: the kernel refuses, and the data still arrives. */
static int live_beyond(void *arg)
{
	struct invlock_uring_op ops[3];
	struct io_uring_sqe sqe;
	unsigned char *buf;
	int way, nr = 0;

	EXPECT(!open_limited(arg));
	buf = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(buf, MIB, MADV_NOHUGEPAGE);
	memset(buf, 0, MIB);
	for (int i = 0; i < 3; i++) {
		way = invlock_uring_prep_read(rig.uring, &sqe, rig.fd, buf + i * BUF, BUF, 0,
					      &ops[i]);
		EXPECT(way == (i < 2 ? INVLOCK_URING_FIXED : INVLOCK_URING_MEMLOCK));
	}
	/* Memory is not tried each time: the adapter lets 1, 2, 4, ... requests pass in between. */
	for (int i = 0; i < 100; i++)
		EXPECT(way_of_a_read(buf + 2 * BUF, BUF, i * 4096) == INVLOCK_URING_MEMLOCK);
	{
		struct invlock_cache_stats s = { .size = sizeof(s) };

		EXPECT(!invlock_cache_stats(invlock_uring_cache(rig.uring), &s));
		EXPECT(s.refused_reg > 3 && s.refused_reg < 10);
	}
	EXPECT(!invlock_uring_done(&ops[0]));
	EXPECT(!invlock_uring_done(&ops[1]));
	EXPECT(!invlock_uring_done(&ops[2]));
	/* Fixed requests work again when the kernel has given room back, perhaps a while later. */
	do {
		usleep(1000);
		way = way_of_a_read(buf + 2 * BUF, BUF, 0);
	} while (way == INVLOCK_URING_MEMLOCK && ++nr < 30000);
	EXPECT(way == INVLOCK_URING_FIXED);
	EXPECT(!invlock_uring_close(rig.uring));
	return 0;
}

TEST(without_room_under_rlimit_memlock_requests_go_plain_until_there_is_some)
{
	/* the ring takes a few pages of the limit */
	struct limited l = { .limit = 2 * BUF + BUF / 2, .max_bytes = 1024 * MIB };

	RIG_OPEN(&rig, "manual", 0, NULL);
	rig_close(&rig);
	in_child(live_beyond, &l);
}

static int live_on_nothing(void *arg)
{
	const struct limited *l = arg;
	unsigned char *buf;

	/* The ring itself may need locked memory, so it is opened first. */
	EXPECT(!rig_open(&rig, "manual", 0, NULL));
	EXPECT(!invlock_uring_close(rig.uring));
	EXPECT(give_up_lock_rights(l->limit));
	EXPECT(!invlock_uring_open(&rig.ring, rig.mm, NULL, &rig.uring, NULL));
	EXPECT(stats_now().max_bytes == 1);
	buf = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(way_of_a_read(buf, BUF, 0) == INVLOCK_URING_MEMLOCK);
	EXPECT(way_of_a_read(buf, 4096, 0) == INVLOCK_URING_SMALL);
	EXPECT(!invlock_uring_close(rig.uring));
	return 0;
}

TEST(without_any_locked_memory_all_requests_go_plain)
{
	struct limited l = { .limit = 0 };

	RIG_OPEN(&rig, "manual", 0, NULL);
	rig_close(&rig);
	in_child(live_on_nothing, &l);
}

/* Two rings want the same memory, of which there may be one and a half times as much. */
static int live_on_two_rings(void *arg)
{
	bool share = *(bool *)arg;
	const struct invlock_uring_options o = {
		.size = sizeof(o), .flags = share ? INVLOCK_URING_SHARE : 0,
	};
	const int second_way = share ? INVLOCK_URING_FIXED : INVLOCK_URING_MEMLOCK;
	struct invlock_uring *second;
	struct invlock_uring_op op;
	struct io_uring ring;
	unsigned char *buf;

	EXPECT(give_up_lock_rights(3 * BUF));
	EXPECT(!rig_open(&rig, "manual", 0, &o));
	EXPECT(!io_uring_queue_init(8, &ring, 0));
	if (share)
		EXPECT(!invlock_uring_join(&ring, rig.uring, &second, NULL));
	else
		EXPECT(!invlock_uring_open(&ring, rig.mm, NULL, &second, NULL));
	buf = mmap(NULL, 2 * BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(buf, 2 * BUF, MADV_NOHUGEPAGE);
	EXPECT(way_of_a_read(buf, 2 * BUF, 0) == INVLOCK_URING_FIXED);
	EXPECT(invlock_uring_begin(second, buf, 2 * BUF, &op) == second_way);
	EXPECT(!invlock_uring_done(&op));
	EXPECT(!invlock_uring_close(rig.uring));
	EXPECT(!invlock_uring_close(second));
	return 0;
}

TEST(rings_that_share_are_charged_once)
{
	const struct invlock_uring_options o = { .size = sizeof(o), .flags = INVLOCK_URING_SHARE };
	bool share = true;
	struct rig second;
	uint64_t sharing;

	RIG_OPEN(&rig, "manual", 0, &o);
	rig_join(&second, &rig, 0);
	sharing = uring_stats(&second).sharing;
	rig_close(&second);
	rig_close(&rig);
	if (sharing != 2)
		TEST_SKIP("this kernel does not copy single slots: before 6.13");
	in_child(live_on_two_rings, &share);
}

TEST(rings_that_do_not_share_are_charged_once_each)
{
	bool share = false;

	RIG_OPEN(&rig, "manual", 0, NULL);
	rig_close(&rig);
	in_child(live_on_two_rings, &share);
}

/* The kernel does not copy into a ring that is charged to somebody else than the first one. */
static int join_without_rights(void *arg)
{
	const struct invlock_uring_options o = { .size = sizeof(o), .flags = INVLOCK_URING_SHARE };
	struct invlock_uring_stats s = { .size = sizeof(s) };
	struct invlock_uring *second;
	struct invlock_uring_op op;
	struct io_uring ring;
	unsigned char *buf;

	(void)arg;
	EXPECT(!rig_open(&rig, "manual", 0, &o));
	EXPECT(give_up_lock_rights(3 * BUF));
	EXPECT(!io_uring_queue_init(8, &ring, 0));
	EXPECT(!invlock_uring_join(&ring, rig.uring, &second, NULL));
	EXPECT(!invlock_uring_stats(second, &s) && s.sharing == 1 && s.max_bytes == 3 * BUF);
	buf = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(way_of_a_read(buf, BUF, 0) == INVLOCK_URING_FIXED);
	EXPECT(invlock_uring_begin(second, buf, BUF, &op) == INVLOCK_URING_FIXED);
	EXPECT(!invlock_uring_done(&op));
	EXPECT(!invlock_uring_close(rig.uring));
	EXPECT(!invlock_uring_close(second));
	return 0;
}

TEST(a_ring_that_is_charged_to_another_user_joins_and_registers_for_itself)
{
	if (geteuid())
		TEST_SKIP("only root may lock all memory, and then give that right up");
	RIG_OPEN(&rig, "manual", 0, NULL);
	rig_close(&rig);
	in_child(join_without_rights, NULL);
}

TEST_MAIN()
