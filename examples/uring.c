/* SPDX-License-Identifier: MIT */
/*
 * io_uring at the speed of registered buffers, on memory that the allocator gave.
 *
 * Reads a file piece by piece into a buffer that is freed and allocated again each time:
 * what to register, and when it is stale, is not this program's business.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <invlock/uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE	(256 * 1024)

/* bytes read, 0 at the end of the file, -errno */
static int read_piece(struct invlock_uring *uring, struct io_uring *ring, int fd, void *buf,
		      uint64_t offset)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct invlock_uring_op op;
	struct io_uring_cqe *cqe;
	int err;

	err = invlock_uring_prep_read(uring, sqe, fd, buf, PIECE, offset, &op);
	if (err < 0)
		return err;
	io_uring_submit(ring);
	err = io_uring_wait_cqe(ring, &cqe);
	if (err)
		return err;
	err = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	invlock_uring_done(&op);
	return err;
}

int main(int argc, char **argv)
{
	struct invlock_uring_stats stats = { .size = sizeof(stats) };
	struct invlock_uring *uring;
	struct invlock_mm *mm;
	struct invlock_why why;
	struct io_uring ring;
	uint64_t offset = 0;
	int fd = open(argc > 1 ? argv[1] : argv[0], O_RDONLY), got;

	if (fd < 0) {
		fprintf(stderr, "uring: cannot open %s\n", argc > 1 ? argv[1] : argv[0]);
		return 1;
	}
	got = io_uring_queue_init(8, &ring, 0);
	if (got) {
		fprintf(stderr, "uring: no io_uring here: %s\n", strerror(-got));
		return 1;
	}
	if (invlock_mm_open(NULL, &mm, &why) ||
	    invlock_uring_open(&ring, mm, NULL, &uring, &why)) {
		fprintf(stderr, "uring: %s\n", why.text);
		return 1;
	}
	do {
		/* at a page, as kernels before 6.18 want it; see invlock_uring_options.align */
		void *buf = aligned_alloc(4096, PIECE);

		got = read_piece(uring, &ring, fd, buf, offset);
		offset += got > 0 ? got : 0;
		free(buf);
	} while (got > 0);
	invlock_uring_stats(uring, &stats);
	printf("%llu bytes, %llu of the reads with registered memory\n",
	       (unsigned long long)offset,
	       (unsigned long long)stats.ways[INVLOCK_URING_FIXED]);
	invlock_uring_close(uring);
	io_uring_queue_exit(&ring);
	invlock_mm_close(mm);
	return got != 0;
}
