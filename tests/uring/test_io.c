// SPDX-License-Identifier: MIT
/* Requests that succeed and requests that fail: bytes and results are those of plain requests. */
#include <fcntl.h>

#include "rig.h"

TEST(a_read_into_any_memory_brings_the_files_bytes)
{
	struct rig rig;
	unsigned char *buf;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	buf = memory(BUF, 0);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, 0, BUF));
	assert_false(holds(buf, 1, BUF));

	/* the same memory again is a hit */
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, MIB, BUF));
	assert_int_equal(cache_stats(&rig).hits, 1);
	assert_int_equal(cache_stats(&rig).reg_calls, 1);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(a_part_of_registered_memory_needs_no_registration_of_its_own)
{
	struct rig rig;
	unsigned char *buf;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	buf = memory(4 * BUF, 0);
	assert_int_equal(read_one(&rig, rig.fd, buf, 4 * BUF, 0, &way), 4 * BUF);
	assert_int_equal(read_one(&rig, rig.fd, buf + BUF + 4096, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf + BUF + 4096, MIB, BUF));
	assert_true(holds(buf, 0, BUF + 4096));
	assert_true(holds(buf + 2 * BUF + 4096, 2 * BUF + 4096, 2 * BUF - 4096));
	assert_int_equal(cache_stats(&rig).reg_calls, 1);
	rig_close(&rig);
	munmap(buf, 4 * BUF);
}

TEST(a_write_from_any_memory_arrives_in_the_file)
{
	struct rig rig;
	unsigned char *out, *in;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	out = memory(BUF, 0x5a);
	in = memory(BUF, 0);
	assert_int_equal(write_one(&rig, rig.fd, out, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_int_equal(pread(rig.fd, in, BUF, MIB), BUF);
	assert_memory_equal(in, out, BUF);
	rig_close(&rig);
	munmap(out, BUF);
	munmap(in, BUF);
}

TEST(odd_addresses_lengths_and_offsets_are_served_on_buffered_files)
{
	const struct invlock_uring_options o = { .size = sizeof(o), .min_len = 1, .align = 1 };
	static const size_t odd[] = { 0, 1, 7, 511, 4093, 4095, 4096, 4097, 9999 };
	struct rig rig;
	unsigned char *buf, *at;
	int way, fd;

	RIG_OPEN(&rig, "manual", 0, &o);
	fd = known_file(0);
	assert_true(fd >= 0);
	buf = memory(BUF, 0);
	for (unsigned int i = 0; i < 9; i++) {
		for (unsigned int j = 1; j < 9; j++) {
			memset(buf, 0xee, BUF);
			at = buf + odd[i];
			assert_int_equal(read_one(&rig, fd, at, odd[j], odd[i] * 3, &way), odd[j]);
			assert_int_equal(way, INVLOCK_URING_FIXED);
			assert_true(holds(at, odd[i] * 3, odd[j]));
			/* not one byte beside the buffer has changed */
			assert_int_equal(at[odd[j]], 0xee);
			assert_true(at == buf || at[-1] == 0xee);
		}
	}
	close(fd);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(a_read_across_the_end_of_the_file_is_as_short_as_a_plain_one)
{
	struct rig rig;
	unsigned char *buf, *plain;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	buf = memory(2 * BUF, 0xee);
	plain = memory(2 * BUF, 0xee);
	assert_int_equal(pread(rig.fd, plain, 2 * BUF, FILE_SIZE - BUF), BUF);
	assert_int_equal(read_one(&rig, rig.fd, buf, 2 * BUF, FILE_SIZE - BUF, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, FILE_SIZE - BUF, BUF));
	/* What the buffer has behind the end is up to the file system: ext4 clears it. */
	assert_memory_equal(buf, plain, 2 * BUF);
	assert_int_equal(read_one(&rig, rig.fd, buf, 2 * BUF, FILE_SIZE, NULL), 0);
	rig_close(&rig);
	munmap(buf, 2 * BUF);
	munmap(plain, 2 * BUF);
}

TEST(a_bad_file_descriptor_is_reported_by_the_cqe)
{
	struct rig rig;
	unsigned char *buf;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	buf = memory(BUF, 0);
	assert_int_equal(read_one(&rig, -1, buf, BUF, 0, &way), -EBADF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_int_equal(write_one(&rig, 12345, buf, BUF, 0, &way), -EBADF);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(a_misaligned_direct_read_fails_as_a_plain_one_does)
{
	struct rig rig;
	unsigned char *buf;
	int way, plain;

	RIG_OPEN(&rig, "manual", 0, NULL);
	buf = memory(BUF, 0);
	plain = pread(rig.fd, buf, BUF, 1) < 0 ? -errno : 0;
	assert_int_equal(plain, -EINVAL);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 1, &way), plain);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(a_linked_request_that_is_cancelled_gives_its_slot_back)
{
	struct invlock_uring_op ops[2];
	struct io_uring_sqe *sqe;
	struct rig rig;
	unsigned char *a, *b;
	int sum;

	RIG_OPEN(&rig, "manual", 0, NULL);
	a = memory(BUF, 0);
	b = memory(BUF, 0xee);
	sqe = io_uring_get_sqe(&rig.ring);
	assert_int_equal(invlock_uring_prep_read(rig.uring, sqe, -1, a, BUF, 0, &ops[0]),
			 INVLOCK_URING_FIXED);
	io_uring_sqe_set_data(sqe, &ops[0]);
	sqe->flags |= IOSQE_IO_LINK;
	assert_int_equal(prepare(&rig, rig.fd, b, BUF, 0, &ops[1]), INVLOCK_URING_FIXED);
	sum = finish(&rig) + finish(&rig);
	assert_int_equal(sum, -EBADF - ECANCELED);
	assert_int_equal(b[0], 0xee);
	rig_close(&rig);
	munmap(a, BUF);
	munmap(b, BUF);
}

TEST(a_request_is_done_once)
{
	struct invlock_uring_op op, plain;
	struct rig rig;
	unsigned char *buf;

	RIG_OPEN(&rig, "manual", 0, NULL);
	buf = memory(BUF, 0);
	assert_int_equal(prepare(&rig, rig.fd, buf, BUF, 0, &op), INVLOCK_URING_FIXED);
	assert_int_equal(uring_stats(&rig).in_flight, 1);
	assert_int_equal(finish(&rig), BUF);
	assert_int_equal(invlock_uring_done(&op), -EINVAL);
	assert_int_equal(prepare(&rig, rig.fd, buf, 4096, 0, &plain), INVLOCK_URING_SMALL);
	assert_int_equal(uring_stats(&rig).in_flight, 0);
	assert_int_equal(finish(&rig), 4096);
	assert_int_equal(invlock_uring_done(&plain), -EINVAL);
	assert_int_equal(invlock_uring_done(NULL), -EINVAL);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(a_request_without_an_adapter_an_sqe_or_an_op_prepares_nothing)
{
	struct invlock_uring_op op;
	struct io_uring_sqe sqe;
	struct rig rig;
	char c[16];

	RIG_OPEN(&rig, "manual", 0, NULL);
	memset(&sqe, 0xee, sizeof(sqe));
	assert_int_equal(invlock_uring_prep_read(NULL, &sqe, 0, c, 16, 0, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_read(rig.uring, NULL, 0, c, 16, 0, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_read(rig.uring, &sqe, 0, c, 16, 0, NULL), -EINVAL);
	assert_int_equal(invlock_uring_prep_write(NULL, &sqe, 0, c, 16, 0, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_write(rig.uring, NULL, 0, c, 16, 0, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_write(rig.uring, &sqe, 0, c, 16, 0, NULL), -EINVAL);
	assert_int_equal(sqe.opcode, 0xee);
	rig_close(&rig);
}

TEST_MAIN()
