// SPDX-License-Identifier: MIT
/*
 * Commands of a device's own. Few machines have an NVMe device that a test may write: the guest of
 * tests/vm has one. Elsewhere these tests look at the request's bytes, and at what devices answer
 * that do not know the command.
 */
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "rig.h"

#define SQE128	(IORING_SETUP_SQE128 | IORING_SETUP_CQE32)

static const struct invlock_uring_options any = {
	.size = sizeof(any), .min_len = 1, .align = 1, .flags = INVLOCK_URING_NO_REAPER,
};

/* a number in a request, as the kernel finds it */
static uint64_t number_at(const void *sqe, size_t offset, size_t len)
{
	uint64_t number = 0;

	memcpy(&number, (const char *)sqe + offset, len);
	return number;
}

TEST(a_command_is_laid_out_as_the_kernel_reads_it)
{
	unsigned char *buf = memory(BUF, 0), *other = memory(BUF, 0);
	unsigned char sqe[128], cmd[80];
	struct invlock_uring_op op, first;
	struct rig rig;

	RIG_OPEN(&rig, "manual", SQE128, &any);
	/* so that the slot is not 0 */
	assert_int_equal(invlock_uring_begin(rig.uring, other, BUF, &first), INVLOCK_URING_FIXED);
	for (int fixed = 0; fixed < 2; fixed++) {
		memset(sqe, 0xff, sizeof(sqe));
		assert_int_equal(invlock_uring_prep_cmd(rig.uring, (struct io_uring_sqe *)sqe, 77,
							NVME_URING_CMD_IO, buf + !fixed, 4096, &op),
				 fixed ? INVLOCK_URING_FIXED : INVLOCK_URING_UNALIGNED);
		memset(cmd, 0x5a, sizeof(cmd));
		memcpy(((struct io_uring_sqe *)sqe)->cmd, cmd, sizeof(cmd));
		assert_int_equal(number_at(sqe, 0, 1), IORING_OP_URING_CMD);
		assert_int_equal(number_at(sqe, 1, 3), 0);	/* flags, ioprio */
		assert_int_equal(number_at(sqe, 4, 4), 77);
		assert_int_equal(number_at(sqe, 8, 8), NVME_URING_CMD_IO);
		assert_int_equal(number_at(sqe, 16, 8), 0);
		assert_int_equal(number_at(sqe, 24, 4), 0);
		assert_int_equal(number_at(sqe, 28, 4), fixed);	/* IORING_URING_CMD_FIXED */
		assert_int_equal(number_at(sqe, 40, 2), fixed ? op.slot : 0);
		assert_memory_equal(sqe + 48, cmd, sizeof(cmd));
		if (fixed)
			assert_int_not_equal(op.slot, first.slot);
		assert_int_equal(invlock_uring_done(&op), 0);
	}
	assert_int_equal(invlock_uring_done(&first), 0);
	rig_close(&rig);
	munmap(buf, BUF);
	munmap(other, BUF);
}

/* a request of the program's own, without an adapter */
static void prepare_plain(struct io_uring_sqe *sqe, int fd, const struct nvme_uring_cmd *cmd)
{
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, NVME_URING_CMD_IO);
	memcpy(sqe->cmd, cmd, sizeof(*cmd));
}

static int answer(struct rig *rig)
{
	struct io_uring_cqe *cqe;
	int res;

	assert_int_equal(io_uring_submit_and_wait(&rig->ring, 1), 1);
	assert_int_equal(io_uring_peek_cqe(&rig->ring, &cqe), 0);
	res = cqe->res;
	io_uring_cqe_seen(&rig->ring, cqe);
	return res;
}

static void same_answer(struct rig *rig, int fd, unsigned char *buf)
{
	struct nvme_uring_cmd cmd = {
		.opcode = 2, .addr = (unsigned long)buf, .data_len = BUF,
	};
	struct invlock_uring_op op;
	struct io_uring_sqe *sqe;
	int want;

	assert_true(fd >= 0);
	prepare_plain(io_uring_get_sqe(&rig->ring), fd, &cmd);
	want = answer(rig);
	sqe = io_uring_get_sqe(&rig->ring);
	assert_int_equal(invlock_uring_prep_cmd(rig->uring, sqe, fd, NVME_URING_CMD_IO, buf, BUF,
						&op), INVLOCK_URING_FIXED);
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	assert_int_equal(answer(rig), want);
	assert_int_equal(uring_stats(rig).in_flight, 1);
	assert_int_equal(invlock_uring_done(&op), 0);
	close(fd);
}

TEST(a_device_that_does_not_know_a_command_answers_the_same_with_registered_memory)
{
	unsigned char *buf = memory(BUF, 0);
	struct rig rig;

	RIG_OPEN(&rig, "manual", SQE128, &any);
	same_answer(&rig, open("/dev/null", O_RDWR), buf);	/* takes every command */
	same_answer(&rig, open("/dev/zero", O_RDWR), buf);
	same_answer(&rig, socket(AF_UNIX, SOCK_STREAM, 0), buf);
	same_answer(&rig, dup(rig.fd), buf);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(memory_that_a_device_cannot_reach_is_left_to_a_plain_command)
{
	unsigned char *buf = memory(BUF, 0);
	struct invlock_uring_op op;
	struct io_uring_sqe sqe;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, &any);
	for (int i = 1; i < 4; i++) {
		assert_int_equal(invlock_uring_prep_cmd(rig.uring, &sqe, 0, 1, buf + i, 64, &op),
				 INVLOCK_URING_UNALIGNED);
		assert_int_equal(invlock_uring_done(&op), 0);
		assert_int_equal(invlock_uring_prep_cmd(rig.uring, &sqe, 0, 1, buf, 64 + i, &op),
				 INVLOCK_URING_UNALIGNED);
		assert_int_equal(invlock_uring_done(&op), 0);
	}
	assert_int_equal(invlock_uring_prep_cmd(rig.uring, &sqe, 0, 1, buf + 4, 64, &op),
			 INVLOCK_URING_FIXED);
	assert_int_equal(invlock_uring_done(&op), 0);
	assert_int_equal(invlock_uring_prep_cmd(NULL, &sqe, 0, 1, buf, 64, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_cmd(rig.uring, NULL, 0, 1, buf, 64, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_cmd(rig.uring, &sqe, 0, 1, buf, 64, NULL), -EINVAL);
	rig_close(&rig);
	munmap(buf, BUF);
}

/* Let an NVMe device read or write its first blocks. Return: the CQE's result */
static int run_on_device(struct rig *rig, struct io_uring_sqe *sqe, int fd, uint8_t opcode,
			 unsigned char *buf)
{
	struct nvme_uring_cmd cmd = {
		.opcode = opcode, .nsid = ioctl(fd, NVME_IOCTL_ID), .addr = (unsigned long)buf,
		.data_len = BUF, .cdw12 = BUF / 512 - 1,
	};

	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	return answer(rig);
}

static void transfer(struct rig *rig, int fd, uint8_t opcode, unsigned char *buf)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);
	struct invlock_uring_op op;

	assert_int_equal(invlock_uring_prep_cmd(rig->uring, sqe, fd, NVME_URING_CMD_IO, buf, BUF,
						&op), INVLOCK_URING_FIXED);
	assert_int_equal(run_on_device(rig, sqe, fd, opcode, buf), 0);
	assert_int_equal(invlock_uring_done(&op), 0);
}

/* The same with a buffer that the program has registered itself, in this slot. */
static void transfer_unchecked(struct rig *rig, int fd, uint8_t opcode, unsigned char *buf,
			       unsigned int slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, NVME_URING_CMD_IO);
	sqe->rw_flags = 1;	/* IORING_URING_CMD_FIXED */
	sqe->buf_index = slot;
	assert_int_equal(run_on_device(rig, sqe, fd, opcode, buf), 0);
}

static void map_anew(unsigned char *buf)
{
	assert_ptr_equal(mmap(buf, BUF, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), buf);
}

#define NVME_WRITE	1
#define NVME_READ	2
#define NAMESPACE	"/dev/ng0n1"

TEST(an_nvme_device_reaches_the_memory_that_is_there_now)
{
	int fd = open(NAMESPACE, O_RDWR);
	unsigned char *buf = memory(BUF, 0), *want = memory(BUF, 0xa5);
	struct invlock_uring_op op;
	struct rig rig;

	if (fd < 0)
		TEST_SKIP("no NVMe device: %s: %s", NAMESPACE, strerror(errno));
	RIG_OPEN(&rig, "bpf", SQE128, &any);
	transfer(&rig, fd, NVME_WRITE, want);
	for (int i = 0; i < 100; i++) {
		transfer(&rig, fd, NVME_READ, buf);
		assert_memory_equal(buf, want, BUF);
		map_anew(buf);
	}
	/* a registration that nobody checks leads to the pages that were there before */
	assert_int_equal(invlock_uring_begin(rig.uring, buf, BUF, &op), INVLOCK_URING_FIXED);
	transfer_unchecked(&rig, fd, NVME_READ, buf, op.slot);
	assert_memory_equal(buf, want, BUF);
	map_anew(buf);
	transfer_unchecked(&rig, fd, NVME_READ, buf, op.slot);
	assert_int_equal(buf[0], 0);
	assert_int_equal(invlock_uring_done(&op), 0);
	rig_close(&rig);
	munmap(buf, BUF);
	munmap(want, BUF);
	close(fd);
}

TEST_MAIN()
