/* SPDX-License-Identifier: MIT */
/* Reads the beginning of a file several times into the same buffer: registered once. */
#include <fcntl.h>
#include <invlock/uring.h>
#include <stdio.h>
#include <stdlib.h>

#define LEN 65536

static int read_once(struct io_uring *ring, struct invlock_uring *uring, int fd, void *buf)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct invlock_uring_op op;
	struct io_uring_cqe *cqe;
	int result;

	invlock_uring_prep_read(uring, sqe, fd, buf, LEN, 0, &op);
	io_uring_sqe_set_data(sqe, &op);
	io_uring_submit(ring);
	if (io_uring_wait_cqe(ring, &cqe))
		return -1;
	result = cqe->res;
	invlock_uring_done(io_uring_cqe_get_data(cqe));
	io_uring_cqe_seen(ring, cqe);
	printf("%d bytes, %s\n", result, invlock_uring_way_name(op.way));
	return result;
}

int main(int argc, char **argv)
{
	struct invlock_mm_options watch = { .size = sizeof(watch), .need = INVLOCK_BIT(UNMAP) };
	struct invlock_uring_options options = { .size = sizeof(options), .need = watch.need };
	struct invlock_uring_stats stats = { .size = sizeof(stats) };
	int fd = open(argc > 1 ? argv[1] : argv[0], O_RDONLY);
	void *buf = aligned_alloc(4096, LEN);
	struct invlock_uring *uring;
	struct invlock_mm *mm;
	struct invlock_why why;
	struct io_uring ring;

	if (fd < 0 || io_uring_queue_init(8, &ring, 0)) {
		perror("open, or io_uring");
		return 1;
	}
	/* what requests into a fixed buffer ask of its address, for this file */
	if (invlock_uring_file_align(fd) > 0)
		options.align = invlock_uring_file_align(fd);
	if (invlock_mm_open(&watch, &mm, &why) ||
	    invlock_uring_open(&ring, mm, &options, &uring, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	/* registered now, and not by the first request */
	if (invlock_uring_prime(uring, buf, LEN))
		printf("not registered: its requests go plain\n");
	/*
	 * Prepared in the same way: invlock_uring_prep_write(), invlock_uring_prep_send_zc(), and
	 * what the program prepares itself after invlock_uring_begin().
	 */
	for (int i = 0; i < 3; i++)
		read_once(&ring, uring, fd, buf);
	invlock_cache_reap(invlock_uring_cache(uring));
	invlock_uring_stats(uring, &stats);
	printf("%llu requests used a registered buffer\n",
	       (unsigned long long)stats.ways[INVLOCK_URING_FIXED]);
	invlock_uring_close(uring);
	io_uring_queue_exit(&ring);
	invlock_mm_close(mm);
	return 0;
}
