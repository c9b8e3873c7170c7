/* SPDX-License-Identifier: MIT */
/* Reads the first 64 KiB of an NVMe device by its own read command: nvme /dev/ng0n1 */
#include <fcntl.h>
#include <invlock/uring.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define LEN		65536
#define BLOCK		512	/* of the namespace: a real program asks the device */
#define NVME_READ	2

/* Return: the CQE's result: 0, -errno, or the device's own status */
static int read_blocks(struct invlock_uring *uring, struct io_uring *ring, int fd, void *buf)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_READ,
		.nsid = ioctl(fd, NVME_IOCTL_ID),
		.addr = (unsigned long)buf,
		.data_len = LEN,
		.cdw12 = LEN / BLOCK - 1,
	};
	struct invlock_uring_op op;
	struct io_uring_cqe *cqe;
	int result;

	if (invlock_uring_prep_cmd(uring, sqe, fd, NVME_URING_CMD_IO, buf, LEN, &op) < 0)
		return -1;
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	io_uring_submit(ring);
	if (io_uring_wait_cqe(ring, &cqe))
		return -1;
	result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	printf("result %d, %s\n", result, invlock_uring_way_name(op.way));
	invlock_uring_done(&op);
	return result;
}

int main(int argc, char **argv)
{
	int fd = open(argc > 1 ? argv[1] : "/dev/ng0n1", O_RDONLY), result;
	void *buf = aligned_alloc(4096, LEN);
	struct invlock_uring *uring;
	struct invlock_mm *mm;
	struct invlock_why why;
	struct io_uring ring;

	if (fd < 0 || !buf ||
	    io_uring_queue_init(8, &ring, IORING_SETUP_SQE128 | IORING_SETUP_CQE32)) {
		perror("the device, or io_uring");
		return 1;
	}
	if (invlock_mm_open(NULL, &mm, &why) ||
	    invlock_uring_open(&ring, mm, NULL, &uring, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	result = read_blocks(uring, &ring, fd, buf);
	invlock_uring_close(uring);
	io_uring_queue_exit(&ring);
	invlock_mm_close(mm);
	free(buf);
	return result != 0;
}
