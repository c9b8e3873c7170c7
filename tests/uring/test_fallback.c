// SPDX-License-Identifier: MIT
/* Requests that are made plain: each cause has a name, and the bytes are those of any request. */
#include <linux/magic.h>
#include <sys/vfs.h>

#include "core/invalidate.h"
#include "lib/mm.h"
#include "rig.h"

/* Every request so far went one of these ways, and was counted. */
static void assert_counted(const struct rig *rig, unsigned int way, uint64_t nr)
{
	assert_int_equal(uring_stats(rig).ways[way], nr);
}

TEST(a_short_request_goes_plain_and_the_threshold_is_an_option)
{
	struct invlock_uring_options o = { .size = sizeof(o) };
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(read_one(&rig, rig.fd, buf, 12 * KIB, 4096, &way), 12 * KIB);
	assert_int_equal(way, INVLOCK_URING_SMALL);
	assert_true(holds(buf, 4096, 12 * KIB));
	assert_int_equal(read_one(&rig, rig.fd, buf, 16 * KIB, 0, &way), 16 * KIB);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_counted(&rig, INVLOCK_URING_SMALL, 1);
	rig_close(&rig);

	o.min_len = 1;
	RIG_OPEN(&rig, "manual", 0, &o);
	/* the disk may have blocks of 4096 bytes */
	assert_int_equal(read_one(&rig, rig.fd, buf, 4096, 4096, &way), 4096);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, 4096, 4096));
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(memory_that_is_not_aligned_goes_plain_and_the_alignment_is_an_option)
{
	struct invlock_uring_options o = { .size = sizeof(o) };
	unsigned char *buf = memory(2 * BUF, 0);
	struct rig rig;
	int way, fd;

	/* The device decides which direct I/O it serves. On a buffered file all of it works. */
	fd = known_file(0);
	assert_true(fd >= 0);

	o.align = 4096;
	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(read_one(&rig, fd, buf + 2048, BUF, 4096, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_UNALIGNED);
	assert_true(holds(buf + 2048, 4096, BUF));
	assert_int_equal(read_one(&rig, fd, buf + 4096, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	/* It is not fixed even if it happens to lie in registered memory. */
	assert_int_equal(read_one(&rig, fd, buf + 4096 + 512, 32 * KIB, 4096, &way), 32 * KIB);
	assert_int_equal(way, INVLOCK_URING_UNALIGNED);
	assert_true(holds(buf + 4096 + 512, 4096, 32 * KIB));
	assert_counted(&rig, INVLOCK_URING_UNALIGNED, 2);
	assert_counted(&rig, INVLOCK_URING_FIXED, 1);
	rig_close(&rig);

	o.align = 512;
	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(read_one(&rig, fd, buf + 512, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf + 512, 0, BUF));
	assert_int_equal(read_one(&rig, fd, buf + 256, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_UNALIGNED);
	rig_close(&rig);

	o.align = 1;
	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(read_one(&rig, fd, buf + 1, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf + 1, 0, BUF));
	rig_close(&rig);
	close(fd);
	munmap(buf, 2 * BUF);
}

TEST(an_empty_request_moves_nothing_and_is_no_error)
{
	const struct invlock_uring_options o = { .size = sizeof(o), .min_len = 1 };
	unsigned char *buf = memory(BUF, 0xee);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &o);
	assert_int_equal(read_one(&rig, rig.fd, buf, 0, 0, &way), 0);
	assert_int_equal(way, INVLOCK_URING_SMALL);
	assert_int_equal(read_one(&rig, rig.fd, NULL, 0, 0, &way), 0);
	assert_int_equal(buf[0], 0xee);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(more_than_a_gib_goes_plain)
{
	const struct invlock_uring_options o = { .size = sizeof(o), .align = 1 };
	size_t len = 5 * 1024 * MIB;
	struct invlock_uring_op op;
	struct io_uring_sqe sqe;
	struct rig rig;
	unsigned char *buf;
	int way, fd;

	RIG_OPEN(&rig, "manual", 0, &o);
	fd = known_file(0);
	buf = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(buf, MAP_FAILED);
	/* A length that does not fit into the request moves as much as read(2) would. */
	assert_int_equal(invlock_uring_prep_read(rig.uring, &sqe, fd, buf, len, 0, &op),
			 INVLOCK_URING_LARGE);
	assert_int_equal(sqe.len, 0x7ffff000);
	assert_int_equal(invlock_uring_done(&op), 0);
	assert_int_equal(read_one(&rig, fd, buf, len, 0, &way), FILE_SIZE);
	assert_int_equal(way, INVLOCK_URING_LARGE);
	assert_true(holds(buf, 0, FILE_SIZE));
	/* refused for its number of pages and not for its length */
	assert_int_equal(read_one(&rig, fd, buf + 100, 1024 * MIB, 8, &way), FILE_SIZE - 8);
	assert_int_equal(way, INVLOCK_URING_LARGE);
	assert_true(holds(buf + 100, 8, FILE_SIZE - 8));
	munmap(buf, len);
	close(fd);
	rig_close(&rig);
}

static bool is_in_tmpfs(int fd)
{
	struct statfs fs;

	assert_int_equal(fstatfs(fd, &fs), 0);
	return fs.f_type == TMPFS_MAGIC;
}

TEST(memory_that_the_kernel_does_not_register_goes_plain)
{
	unsigned char *mapped, *readable, *in = memory(BUF, 0);
	struct rig rig;
	int way, fd;

	RIG_OPEN(&rig, "manual", 0, NULL);

	/* a mapped file, which the kernel registers only if it is in tmpfs: read into it */
	fd = known_file(0);
	mapped = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mapped, MAP_FAILED);
	assert_int_equal(read_one(&rig, rig.fd, mapped, BUF, MIB, &way), BUF);
	assert_int_equal(way, is_in_tmpfs(fd) ? INVLOCK_URING_FIXED : INVLOCK_URING_REFUSED);
	assert_true(holds(mapped, MIB, BUF));
	invlock_manual_start(rig.mm, mapped, BUF);
	munmap(mapped, BUF);
	invlock_manual_end(rig.mm, mapped, BUF);
	close(fd);

	/* read-only memory: write from it */
	readable = memory(BUF, 0x77);
	mprotect(readable, BUF, PROT_READ);
	assert_int_equal(write_one(&rig, rig.fd, readable, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	assert_int_equal(pread(rig.fd, in, BUF, 0), BUF);
	assert_memory_equal(in, readable, BUF);
	/* A read into that memory fails as it should. */
	assert_int_equal(read_one(&rig, rig.fd, readable, BUF, MIB, &way), -EFAULT);
	assert_int_equal(way, INVLOCK_URING_KNOWN);
	rig_close(&rig);
	munmap(readable, BUF);
	munmap(in, BUF);
}

TEST(a_hole_a_null_pointer_and_a_wrapping_range_are_reported_by_the_cqe)
{
	unsigned char *buf = memory(BUF, 0xee);
	struct rig rig;
	int way, res;

	RIG_OPEN(&rig, "manual", 0, NULL);
	munmap(buf + BUF / 2, BUF / 2);
	res = read_one(&rig, rig.fd, buf, BUF, 0, &way);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	/* the kernel decides between a short read and an error */
	assert_true(res == -EFAULT || (res > 0 && holds(buf, 0, res)));
	/* A part without the hole is still fixed. */
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF / 2, 0, &way), BUF / 2);
	assert_int_equal(way, INVLOCK_URING_FIXED);

	assert_int_equal(read_one(&rig, rig.fd, NULL, BUF, 0, &way), -EFAULT);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	assert_int_equal(read_one(&rig, rig.fd, (void *)-4096ul, BUF, 0, &way), -EFAULT);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	assert_int_equal(read_one(&rig, rig.fd, (void *)-BUF, BUF, 0, &way), -EFAULT);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	assert_int_equal(read_one(&rig, rig.fd, (void *)(1ul << 60), BUF, 0, &way), -EFAULT);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	rig_close(&rig);
	munmap(buf, BUF / 2);
}

TEST(memory_whose_map_keeps_changing_goes_plain)
{
	const struct invlock_uring_options o = { .size = sizeof(o), .time_ns = 1000000 };
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, &o);
	invlock_manual_start(rig.mm, buf, BUF);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_COLLIDED);
	assert_true(holds(buf, 0, BUF));
	invlock_manual_end(rig.mm, buf, BUF);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, MIB, BUF));
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(with_a_monitor_that_is_degraded_requests_go_plain)
{
	unsigned char *buf = memory(BUF, 0), *other = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	invlock_close_feed(&rig.mm->il, INVLOCK_FEED_DEGRADED);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_UNWATCHED);
	assert_true(holds(buf, MIB, BUF));
	assert_int_equal(read_one(&rig, rig.fd, other, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_UNWATCHED);
	assert_true(holds(other, MIB, BUF));
	rig_close(&rig);
	munmap(buf, BUF);
	munmap(other, BUF);
}

/* Maps a file privately, at this place. */
static void map_private_file(unsigned char *buf)
{
	int fd = memfd_create("refused", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, BUF), 0);
	assert_ptr_equal(mmap(buf, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0),
			 buf);
	close(fd);
}

TEST(memory_that_the_monitor_refuses_goes_plain_and_is_not_tried_each_time)
{
	unsigned char *buf = memory(2 * BUF, 0);
	struct rig rig;
	int way;

	map_private_file(buf);
	RIG_OPEN(&rig, "bpf", 0, NULL);
	/* as where the monitor has no net, without which it would not see a truncation */
	rig.mm->seen &= ~INVLOCK_BIT(TRUNCATE_PRIVATE);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_UNWATCHED);
	assert_true(holds(buf, 0, BUF));
	for (int i = 0; i < 100; i++) {
		assert_int_equal(read_one(&rig, rig.fd, buf, BUF, MIB, &way), BUF);
		assert_int_equal(way, INVLOCK_URING_KNOWN);
		assert_true(holds(buf, MIB, BUF));
	}
	assert_int_equal(cache_stats(&rig).refused_private, 1);
	assert_int_equal(cache_stats(&rig).reg_calls, 0);
	assert_int_equal(read_one(&rig, rig.fd, buf + BUF, BUF, MIB, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	/* Other memory at that address is not refused. */
	assert_ptr_equal(mmap(buf, BUF, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), buf);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_true(holds(buf, 0, BUF));
	rig_close(&rig);
	munmap(buf, 2 * BUF);
}

TEST(a_registration_that_fails_for_another_reason_goes_plain)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;
	int way;

	RIG_OPEN(&rig, "manual", 0, NULL);
	/* the program breaks the contract and takes the table away */
	assert_int_equal(io_uring_unregister_buffers(&rig.ring), 0);
	assert_int_equal(read_one(&rig, rig.fd, buf, BUF, 0, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_OTHER);
	assert_true(holds(buf, 0, BUF));
	assert_counted(&rig, INVLOCK_URING_OTHER, 1);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(every_way_has_a_name_of_its_own)
{
	for (unsigned int i = 1; i < INVLOCK_URING_NR_WAYS; i++)
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(invlock_uring_way_name(i),
						invlock_uring_way_name(j));
	assert_string_equal(invlock_uring_way_name(0), "fixed");
	assert_string_equal(invlock_uring_way_name(INVLOCK_URING_NR_WAYS), "unknown");
	assert_string_equal(invlock_uring_way_name(-1), "unknown");
}

TEST_MAIN()
