// SPDX-License-Identifier: MIT
/* Rings that share registrations. */
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "adapters/uring/share.h"
#include "core/port.h"
#include "rig.h"

#define NR_RINGS	4

static const struct invlock_uring_options shares = {
	.size = sizeof(shares), .flags = INVLOCK_URING_SHARE | INVLOCK_URING_NO_REAPER,
	.min_len = 1, .align = 1,
};

static const struct invlock_uring_options shares_and_reaps = {
	.size = sizeof(shares_and_reaps), .flags = INVLOCK_URING_SHARE, .reap_ms = 1, .align = 1,
};

/* while set, the kernel is one that does not copy slots */
static bool old_kernel;
static u32 nr_copies;

/* Replaces the adapter's function. */
int ring_copy(struct io_uring *ring, const struct io_uring *from, unsigned int slot)
{
	uint32_t copy[8] = { from->ring_fd, 2, slot, slot, 1 };
	long ret;

	if (old_kernel)
		return -EINVAL;
	port_fetch_add(&nr_copies, 1);
	ret = syscall(SYS_io_uring_register, ring->ring_fd, 30, copy, 1);
	return ret < 0 ? -errno : 0;
}

/* while set, the kernel refuses to clear slots */
static bool no_clear;

/* Replaces the adapter's function. */
int ring_update(struct io_uring *ring, unsigned int slot, const struct iovec *iovecs,
		unsigned int nr)
{
	return no_clear && !iovecs->iov_base ? -EACCES : update_buffers(ring, slot, iovecs, nr);
}

/* Opens NR_RINGS rigs, of which all but the first join. The first ring has no flags. */
static void open_all(struct rig *rigs, const struct invlock_uring_options *o,
		     unsigned int ring_flags)
{
	old_kernel = false;
	RIG_OPEN(&rigs[0], "manual", 0, o);
	for (int i = 1; i < NR_RINGS; i++)
		rig_join(&rigs[i], &rigs[0], ring_flags);
	if (uring_stats(&rigs[0]).sharing == NR_RINGS)
		return;
	for (int i = 0; i < NR_RINGS; i++)
		rig_close(&rigs[i]);
	TEST_SKIP("this kernel does not copy single slots: before 6.13");
}

static void close_all(struct rig *rigs)
{
	for (int i = 0; i < NR_RINGS; i++)
		rig_close(&rigs[i]);
}

/* Reads through a registered buffer, and looks whether the program sees what was read. */
static void read_fixed(struct rig *rig, unsigned char *buf, uint64_t offset)
{
	int way;

	memset(buf, 0xee, BUF);
	assert_int_equal(read_one(rig, rig->fd, buf, BUF, offset, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, offset, BUF));
}

/*
 * Older kernels count what they pin for every process; Linux 7.2 only for one that may not lock all
 * memory. So become such a process, with an infinite limit.
 */
static int give_up_lock_rights(void **state)
{
	const struct rlimit infinite = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {};

	(void)state;
	if (setrlimit(RLIMIT_MEMLOCK, &infinite) || syscall(SYS_capget, &header, caps))
		return 0;
	caps[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
	return syscall(SYS_capset, &header, caps) ? -1 : 0;
}

/* KiB that devices hold of this process's memory */
static long pinned(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[200];
	long kib = -1;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPin: %ld", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

/*
 * Waits until no more than so much is pinned: what was used by a request, and the rings of the last
 * test, end when the kernel has time.
 */
static void wait_until_pinned(long kib)
{
	while (pinned() > kib)
		usleep(1000);
	assert_int_equal(pinned(), kib);
}

TEST(rings_that_share_register_and_pin_memory_once)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[NR_RINGS];

	wait_until_pinned(0);
	open_all(rigs, &shares, 0);
	for (int turn = 0; turn < 3; turn++)
		for (int i = 0; i < NR_RINGS; i++)
			read_fixed(&rigs[i], buf, i * 4096);
	assert_int_equal(pinned(), BUF / KIB);
	assert_int_equal(cache_stats(&rigs[1]).reg_calls, 1);
	for (int i = 0; i < NR_RINGS; i++)
		assert_int_equal(uring_stats(&rigs[i]).slots_used, 1);
	close_all(rigs);
	wait_until_pinned(0);
	munmap(buf, BUF);
}

/* what the test above would find without sharing */
TEST(rings_that_do_not_share_pin_memory_once_each)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[NR_RINGS];

	wait_until_pinned(0);
	for (int i = 0; i < NR_RINGS; i++) {
		RIG_OPEN(&rigs[i], "manual", 0, NULL);
		read_fixed(&rigs[i], buf, 0);
		assert_int_equal(uring_stats(&rigs[i]).sharing, 1);
	}
	assert_int_equal(pinned(), NR_RINGS * BUF / KIB);
	close_all(rigs);
	munmap(buf, BUF);
}

TEST(a_ring_copies_a_registration_once)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[NR_RINGS];

	open_all(rigs, &shares, 0);
	nr_copies = 0;
	for (int i = 0; i < 10; i++)
		read_fixed(&rigs[1], buf, 0);
	assert_int_equal(nr_copies, 1);
	replace(&rigs[0], buf, BUF);
	for (int i = 0; i < 10; i++)
		read_fixed(&rigs[1], buf, MIB);
	assert_int_equal(nr_copies, 2);
	close_all(rigs);
	munmap(buf, BUF);
}

/*
 * Rings that belong to one thread keep their copies of dead memory for a while. What is registered
 * next is in the same slot of the share, so only the handle tells that the copies are of something
 * else.
 */
static void no_stale_copy(unsigned int ring_flags)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[NR_RINGS];
	unsigned int slot = 0;

	open_all(rigs, &shares, ring_flags);
	for (int turn = 0; turn < 20; turn++) {
		struct invlock_uring_op op;

		for (int i = 0; i < NR_RINGS; i++)
			read_fixed(&rigs[(turn + i) % NR_RINGS], buf, turn * 4096);
		assert_int_equal(invlock_uring_begin(rigs[0].uring, buf, BUF, &op),
				 INVLOCK_URING_FIXED);
		assert_true(!turn || slot == op.slot);
		slot = op.slot;
		assert_int_equal(invlock_uring_done(&op), 0);
		replace(&rigs[0], buf, BUF);
		assert_true(invlock_cache_drop(invlock_uring_cache(rigs[0].uring), buf, BUF) >= 0);
	}
	close_all(rigs);
	munmap(buf, BUF);
}

TEST(memory_that_changes_is_stale_for_every_ring)
{
	no_stale_copy(0);
}

TEST(memory_that_changes_is_stale_for_every_ring_of_one_thread)
{
	no_stale_copy(IORING_SETUP_SINGLE_ISSUER);
}

TEST(a_copy_that_was_not_cleared_is_never_taken_for_what_is_in_the_slot_now)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[NR_RINGS];

	open_all(rigs, &shares, 0);
	for (int turn = 0; turn < 3; turn++) {
		for (int i = 0; i < NR_RINGS; i++)
			read_fixed(&rigs[i], buf, turn * 4096);
		no_clear = true;
		replace(&rigs[0], buf, BUF);
		assert_true(invlock_cache_drop(invlock_uring_cache(rigs[0].uring), buf, BUF) >= 0);
		no_clear = false;
		/* the slot of the share, and the copy */
		assert_int_equal(uring_stats(&rigs[1]).uncleared, 2);
	}
	close_all(rigs);
	munmap(buf, BUF);
}

TEST(a_ring_that_joins_later_holds_nothing_of_what_was_there)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[NR_RINGS], late;

	wait_until_pinned(0);
	open_all(rigs, &shares, 0);
	read_fixed(&rigs[0], buf, 0);
	rig_join(&late, &rigs[0], 0);
	assert_int_equal(uring_stats(&late).sharing, NR_RINGS + 1);
	assert_int_equal(invlock_cache_drop(invlock_uring_cache(late.uring), buf, BUF), 1);
	wait_until_pinned(0);
	rig_close(&late);
	close_all(rigs);
	munmap(buf, BUF);
}

TEST(the_reaper_clears_the_copies_of_rings_that_make_no_request)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[NR_RINGS];

	wait_until_pinned(0);
	open_all(rigs, &shares_and_reaps, 0);
	for (int i = 0; i < NR_RINGS; i++)
		read_fixed(&rigs[i], buf, 0);
	invlock_manual_start(rigs[0].mm, buf, BUF);
	munmap(buf, BUF);
	invlock_manual_end(rigs[0].mm, buf, BUF);
	/* No call of ours is needed: either the reaper does it, or the test times out. */
	while (uring_stats(&rigs[0]).slots_used || pinned())
		usleep(1000);
	for (int i = 0; i < NR_RINGS; i++)
		assert_int_equal(uring_stats(&rigs[i]).uncleared, 0);
	close_all(rigs);
}

TEST(a_ring_of_one_thread_clears_its_dead_copies_at_its_next_request)
{
	unsigned char *buf = memory(BUF, 0), *same_slot = memory(BUF, 0), *other = memory(BUF, 0);
	struct invlock_uring_op op;
	struct rig rigs[NR_RINGS];

	wait_until_pinned(0);
	open_all(rigs, &shares_and_reaps, IORING_SETUP_SINGLE_ISSUER);
	read_fixed(&rigs[1], buf, 0);
	invlock_manual_start(rigs[0].mm, buf, BUF);
	munmap(buf, BUF);
	invlock_manual_end(rigs[0].mm, buf, BUF);
	while (uring_stats(&rigs[0]).slots_used)
		usleep(1000);
	while (!uring_stats(&rigs[1]).uncleared)
		usleep(1000);
	assert_int_equal(uring_stats(&rigs[1]).uncleared, 1);
	assert_int_equal(uring_stats(&rigs[2]).uncleared, 0);
	assert_int_equal(pinned(), BUF / KIB);
	/* the request does not use the slot that is dead */
	read_fixed(&rigs[0], same_slot, 0);
	read_fixed(&rigs[0], other, 0);
	assert_int_equal(invlock_uring_begin(rigs[1].uring, other, BUF, &op), INVLOCK_URING_FIXED);
	assert_int_equal(invlock_uring_done(&op), 0);
	assert_int_equal(uring_stats(&rigs[1]).uncleared, 0);
	wait_until_pinned(2 * BUF / KIB);
	close_all(rigs);
	munmap(same_slot, BUF);
	munmap(other, BUF);
}

static void in_flight_stays(unsigned int ring_flags)
{
	unsigned char *buf = memory(BUF, 0xee);
	struct invlock_uring_op op, another;
	struct rig rigs[NR_RINGS];

	open_all(rigs, &shares, ring_flags);
	assert_int_equal(prepare(&rigs[1], rigs[1].fd, buf, BUF, MIB, &op), INVLOCK_URING_FIXED);
	invlock_cache_drop(invlock_uring_cache(rigs[0].uring), buf, BUF);
	assert_int_equal(uring_stats(&rigs[0]).slots_used, 1);
	for (int i = 0; i < 20; i++) {
		unsigned char *other = memory(BUF, 0);

		/* this ring's table changes, too */
		assert_int_equal(invlock_uring_begin(rigs[1].uring, other, BUF, &another),
				 INVLOCK_URING_FIXED);
		assert_int_not_equal(another.slot, op.slot);
		assert_int_equal(invlock_uring_done(&another), 0);
		read_fixed(&rigs[2], other, i * 4096);
		invlock_cache_drop(invlock_uring_cache(rigs[0].uring), other, BUF);
		munmap(other, BUF);
	}
	assert_int_equal(finish(&rigs[1]), BUF);
	assert_true(holds(buf, MIB, BUF));
	close_all(rigs);
	munmap(buf, BUF);
}

TEST(what_a_ring_still_reads_into_stays_in_its_slot)
{
	in_flight_stays(0);
}

TEST(what_a_ring_of_one_thread_still_reads_into_stays_in_its_slot)
{
	in_flight_stays(IORING_SETUP_SINGLE_ISSUER);
}

TEST(a_slot_that_another_ring_is_done_with_is_used_although_this_ring_waits)
{
	const struct invlock_uring_options two = {
		.size = sizeof(two), .flags = INVLOCK_URING_SHARE | INVLOCK_URING_NO_REAPER,
		.slots = 2, .align = 1,
	};
	unsigned char *bufs[3] = { memory(BUF, 0), memory(BUF, 0), memory(BUF, 0) };
	struct invlock_uring_op waits, others, op;
	struct rig rigs[NR_RINGS];

	open_all(rigs, &two, 0);
	assert_int_equal(invlock_uring_begin(rigs[0].uring, bufs[0], BUF, &waits), 0);
	assert_int_equal(invlock_uring_begin(rigs[1].uring, bufs[1], BUF, &others), 0);
	assert_int_equal(invlock_uring_begin(rigs[0].uring, bufs[2], BUF, &op), INVLOCK_URING_FULL);
	assert_int_equal(invlock_uring_done(&op), 0);
	assert_int_equal(invlock_uring_done(&others), 0);
	for (int i = 0; i < 64; i++) {
		invlock_uring_begin(rigs[0].uring, bufs[2], BUF, &op);
		assert_int_equal(invlock_uring_done(&op), 0);
	}
	assert_int_equal(op.way, INVLOCK_URING_FIXED);
	assert_int_equal(invlock_uring_done(&waits), 0);
	close_all(rigs);
	for (int i = 0; i < 3; i++)
		munmap(bufs[i], BUF);
}

TEST(adapters_that_share_close_in_any_order)
{
	unsigned char *buf = memory(BUF, 0);
	struct invlock_uring_op op;
	struct rig rigs[NR_RINGS];

	for (int first = 0; first < NR_RINGS; first++) {
		open_all(rigs, &shares, 0);
		for (int i = 0; i < NR_RINGS; i++)
			read_fixed(&rigs[i], buf, 0);
		assert_int_equal(invlock_uring_begin(rigs[first].uring, buf, BUF, &op),
				 INVLOCK_URING_FIXED);
		assert_int_equal(invlock_uring_close(rigs[first].uring), -EBUSY);
		assert_int_equal(invlock_uring_done(&op), 0);
		for (int i = 0; i < NR_RINGS; i++) {
			struct rig *left = &rigs[(first + i + 1) % NR_RINGS];
			int nr = NR_RINGS - i;

			assert_int_equal(uring_stats(&rigs[(first + i) % NR_RINGS]).sharing, nr);
			rig_close(&rigs[(first + i) % NR_RINGS]);
			if (nr == 1)
				break;
			read_fixed(left, buf, MIB);
			/* only the rings that are left are cleared */
			invlock_cache_drop(invlock_uring_cache(left->uring), buf, BUF);
			read_fixed(left, buf, MIB);
		}
	}
	munmap(buf, BUF);
}

static int close_in_child(void *arg)
{
	struct rig *rigs = arg;
	struct invlock_uring *uring;

	EXPECT(invlock_uring_join(&rigs[0].ring, rigs[1].uring, &uring, NULL) == -EOWNERDEAD);
	for (int i = 0; i < NR_RINGS; i++)
		EXPECT(invlock_uring_close(rigs[i].uring) == 0);
	return 0;
}

TEST(a_forked_child_frees_its_copies_of_adapters_that_share)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[NR_RINGS];

	open_all(rigs, &shares, 0);
	read_fixed(&rigs[0], buf, 0);
	in_child(close_in_child, rigs);
	for (int i = 0; i < NR_RINGS; i++)
		read_fixed(&rigs[i], buf, MIB);
	close_all(rigs);
	munmap(buf, BUF);
}

TEST(where_the_kernel_does_not_copy_each_ring_registers_for_itself)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[2];

	old_kernel = true;
	RIG_OPEN(&rigs[0], "manual", 0, &shares);
	rig_join(&rigs[1], &rigs[0], 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(uring_stats(&rigs[i]).sharing, 1);
		read_fixed(&rigs[i], buf, 0);
		assert_int_equal(cache_stats(&rigs[i]).reg_calls, 1);
	}
	assert_true(invlock_uring_cache(rigs[0].uring) != invlock_uring_cache(rigs[1].uring));
	rig_close(&rigs[0]);
	rig_close(&rigs[1]);

	/* a ring into which the kernel does not copy, since it was set up by somebody else */
	old_kernel = false;
	RIG_OPEN(&rigs[0], "manual", 0, &shares);
	old_kernel = true;
	rig_join(&rigs[1], &rigs[0], 0);
	old_kernel = false;
	assert_int_equal(uring_stats(&rigs[1]).sharing, 1);
	read_fixed(&rigs[0], buf, 0);
	read_fixed(&rigs[1], buf, 0);
	rig_close(&rigs[0]);
	rig_close(&rigs[1]);
	munmap(buf, BUF);
}

TEST(a_copy_that_fails_makes_the_request_plain)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rigs[NR_RINGS];
	int way;

	open_all(rigs, &shares, 0);
	read_fixed(&rigs[0], buf, 0);
	old_kernel = true;
	assert_int_equal(read_one(&rigs[1], rigs[1].fd, buf, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_OTHER);
	assert_true(holds(buf, MIB, BUF));
	read_fixed(&rigs[0], buf, 0);
	old_kernel = false;
	read_fixed(&rigs[1], buf, 0);
	close_all(rigs);
	munmap(buf, BUF);
}

TEST(a_descriptor_that_the_program_closed_is_not_used_when_its_number_is_another_rings)
{
	unsigned char *buf = memory(BUF, 0), *later = memory(BUF, 0), *others = memory(BUF, 0);
	struct rig rigs[NR_RINGS], other;
	int number, way;

	open_all(rigs, &shares, 0);
	RIG_OPEN(&other, "manual", 0, NULL);
	read_fixed(&rigs[0], buf, 0);
	read_fixed(&other, others, 0);
	number = rigs[0].uring->share->ring.ring_fd;
	assert_int_equal(dup2(other.ring.ring_fd, number), number);

	/* what a ring has copied is as good as before */
	read_fixed(&rigs[0], buf, MIB);
	assert_int_equal(read_one(&rigs[1], rigs[1].fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_OTHER);
	assert_true(holds(buf, 0, BUF));
	assert_int_equal(read_one(&rigs[0], rigs[0].fd, later, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_OTHER);
	assert_true(holds(later, 0, BUF));
	replace(&rigs[0], buf, BUF);
	for (int i = 0; i < NR_RINGS; i++) {
		assert_int_equal(read_one(&rigs[i], rigs[i].fd, buf, BUF, MIB, &way), BUF);
		assert_int_equal(way, INVLOCK_URING_OTHER);
		assert_true(holds(buf, MIB, BUF));
	}
	close_all(rigs);
	/* the other ring's slots are untouched, and its second number is still open */
	read_fixed(&other, others, MIB);
	assert_int_equal(cache_stats(&other).reg_calls, 1);
	assert_int_equal(close(number), 0);
	rig_close(&other);
	munmap(buf, BUF);
	munmap(later, BUF);
	munmap(others, BUF);
}

TEST(only_an_adapter_that_shares_can_be_joined)
{
	struct invlock_uring *uring = NULL;
	struct invlock_why why;
	struct rig rig, other;

	RIG_OPEN(&rig, "manual", 0, NULL);
	RIG_OPEN(&other, "manual", 0, &shares);
	assert_int_equal(invlock_uring_join(&other.ring, rig.uring, &uring, &why), -EINVAL);
	assert_non_null(strstr(why.text, "INVLOCK_URING_SHARE"));
	assert_int_equal(invlock_uring_join(&other.ring, other.uring, &uring, &why), -EBUSY);
	assert_non_null(strstr(why.text, "registered buffers already"));
	assert_int_equal(invlock_uring_join(NULL, other.uring, &uring, &why), -EINVAL);
	assert_string_equal(why.text, "ring is NULL");
	assert_int_equal(invlock_uring_join(&other.ring, NULL, &uring, &why), -EINVAL);
	assert_string_equal(why.text, "other is NULL");
	assert_int_equal(invlock_uring_join(&other.ring, other.uring, NULL, &why), -EINVAL);
	assert_string_equal(why.text, "ret_uring is NULL");
	assert_null(uring);
	rig_close(&rig);
	rig_close(&other);
}

TEST_MAIN(.before_all = give_up_lock_rights, .ends_with_failure = true)
