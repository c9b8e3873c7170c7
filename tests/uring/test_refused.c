// SPDX-License-Identifier: MIT
/* Refused memory is not tried again for each request, but it is not refused for ever. */
#include "adapters/uring/adapter.h"
#include "rig.h"

/* This buffer becomes writable when the kernel is asked the next time. */
static struct invlock_mm *meanwhile_mm;
static unsigned char *meanwhile_buf;

/* Replaces the adapter's function: a change happens before the kernel's answer is seen. */
int ring_update(struct io_uring *ring, unsigned int slot, const struct iovec *iovecs,
		unsigned int nr)
{
	int err = update_buffers(ring, slot, iovecs, nr);

	if (meanwhile_buf) {
		invlock_manual_start(meanwhile_mm, meanwhile_buf, BUF);
		mprotect(meanwhile_buf, BUF, PROT_READ | PROT_WRITE);
		invlock_manual_end(meanwhile_mm, meanwhile_buf, BUF);
		meanwhile_buf = NULL;
	}
	return err;
}

static uint64_t tries(const struct rig *rig)
{
	return cache_stats(rig).refused_reg;
}

TEST(refused_memory_is_not_tried_again_while_the_map_stays_the_same)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	mprotect(buf, BUF, PROT_READ);
	write_one(&rig, rig.fd, buf, BUF, 0, &way);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	for (int i = 0; i < 100; i++) {
		write_one(&rig, rig.fd, buf, BUF, 0, &way);
		assert_int_equal(way, INVLOCK_URING_KNOWN);
	}
	assert_int_equal(tries(&rig), 1);
	assert_int_equal(uring_stats(&rig).ways[INVLOCK_URING_KNOWN], 100);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(after_a_change_of_the_map_refused_memory_is_tried_again)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	mprotect(buf, BUF, PROT_READ);
	write_one(&rig, rig.fd, buf, BUF, 0, &way);
	write_one(&rig, rig.fd, buf, BUF, 0, &way);
	assert_int_equal(way, INVLOCK_URING_KNOWN);
	invlock_manual_start(rig.mm, buf, BUF);
	mprotect(buf, BUF, PROT_READ | PROT_WRITE);
	invlock_manual_end(rig.mm, buf, BUF);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, MIB, BUF));
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(memory_in_a_former_hole_is_found_although_nobody_reports_it)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way, nr;

	RIG_OPEN(&rig, "manual", 0, NULL);
	munmap(buf + BUF / 2, BUF / 2);
	read_one(&rig, rig.fd, buf, BUF, 0, &way);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	assert_ptr_equal(mmap(buf + BUF / 2, BUF / 2, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
			 buf + BUF / 2);
	for (nr = 1; way != INVLOCK_URING_FIXED && nr <= REFUSED_RETRY; nr++)
		assert_int_equal(read_one(&rig, rig.fd, buf, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_int_equal(nr, REFUSED_RETRY + 1);
	assert_true(holds(buf, MIB, BUF));
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(a_request_that_covers_refused_memory_is_refused_and_one_inside_is_tried)
{
	unsigned char *buf = memory(4 * BUF, 0);
	struct invlock_uring_op op;
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	mprotect(buf + BUF, BUF, PROT_READ);
	write_one(&rig, rig.fd, buf + BUF, BUF, 0, &way);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	assert_int_equal(prepare(&rig, rig.fd, buf, 4 * BUF, 0, &op), INVLOCK_URING_KNOWN);
	finish(&rig);
	/*
	 * The request covers a part of the refused memory, perhaps not the part that was at fault.
	 */
	assert_int_equal(prepare(&rig, rig.fd, buf + BUF, BUF / 2, 0, &op), INVLOCK_URING_REFUSED);
	finish(&rig);
	assert_int_equal(prepare(&rig, rig.fd, buf, BUF, 0, &op), INVLOCK_URING_FIXED);
	assert_int_equal(finish(&rig), BUF);
	assert_int_equal(prepare(&rig, rig.fd, buf + 2 * BUF, 2 * BUF, 0, &op),
			 INVLOCK_URING_FIXED);
	assert_int_equal(finish(&rig), 2 * BUF);
	rig_close(&rig);
	munmap(buf, 4 * BUF);
}

TEST(a_change_while_the_kernel_is_asked_is_not_missed)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	mprotect(buf, BUF, PROT_READ);
	meanwhile_mm = rig.mm;
	meanwhile_buf = buf;
	write_one(&rig, rig.fd, buf, BUF, 0, &way);
	assert_null(meanwhile_buf);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	/* The refusal was right when it was made, and is out of date now. */
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(the_oldest_refused_range_makes_room_for_a_new_one)
{
	unsigned char *buf = memory((NR_REFUSED + 1) * BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	mprotect(buf, (NR_REFUSED + 1) * BUF, PROT_READ);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < NR_REFUSED; i++) {
			write_one(&rig, rig.fd, buf + i * BUF, BUF, 0, &way);
			assert_int_equal(way, round ? INVLOCK_URING_KNOWN : INVLOCK_URING_REFUSED);
		}
	}
	write_one(&rig, rig.fd, buf + NR_REFUSED * BUF, BUF, 0, &way);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	assert_int_equal(rig.uring->refused.nr, NR_REFUSED);
	write_one(&rig, rig.fd, buf + BUF, BUF, 0, &way);
	assert_int_equal(way, INVLOCK_URING_KNOWN);
	write_one(&rig, rig.fd, buf, BUF, 0, &way);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	rig_close(&rig);
	munmap(buf, (NR_REFUSED + 1) * BUF);
}

TEST_MAIN()
