/* SPDX-License-Identifier: MIT */
/* Reads a file into four pages of a pool with one request, and sends them with another. */
#include <fcntl.h>
#include <invlock/uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define POOL	(1024 * 1024)
#define PIECE	4096
#define NR	4

/* to the last CQE of the request, since a send without a copy has two */
static int finish(struct io_uring *ring, struct invlock_uring_op *op)
{
	struct io_uring_cqe *cqe;
	int result = 0, more;

	io_uring_submit(ring);
	do {
		if (io_uring_wait_cqe(ring, &cqe))
			return -1;
		if (!(cqe->flags & IORING_CQE_F_NOTIF))
			result = cqe->res;
		more = cqe->flags & IORING_CQE_F_MORE;
		io_uring_cqe_seen(ring, cqe);
	} while (more);
	printf("%d bytes, %s\n", result, invlock_uring_way_name(op->way));
	invlock_uring_done(op);
	return result;
}

int main(int argc, char **argv)
{
	/* the pieces are small, so ask for less than the default */
	struct invlock_uring_options options = { .size = sizeof(options), .min_len = NR * PIECE };
	int fd = open(argc > 1 ? argv[1] : argv[0], O_RDONLY), sockets[2];
	char *pool = aligned_alloc(4096, POOL);
	struct iovec pieces[NR];
	struct msghdr msg = { .msg_iov = pieces, .msg_iovlen = NR };
	struct invlock_uring *uring;
	struct invlock_uring_op op;
	struct invlock_mm *mm;
	struct invlock_why why;
	struct io_uring ring;

	if (fd < 0 || !pool || io_uring_queue_init(8, &ring, 0) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)) {
		perror("open, io_uring or socketpair");
		return 1;
	}
	if (invlock_mm_open(NULL, &mm, &why) ||
	    invlock_uring_open(&ring, mm, &options, &uring, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	/* one registration for all pieces; without it, pieces so far apart would go plain */
	invlock_uring_prime(uring, pool, POOL);
	for (int i = 0; i < NR; i++)
		pieces[i] = (struct iovec){ .iov_base = pool + i * POOL / NR, .iov_len = PIECE };

	invlock_uring_prep_readv(uring, io_uring_get_sqe(&ring), fd, pieces, NR, 0, &op);
	finish(&ring, &op);
	/* a socket of this family always copies, and says so: -EOPNOTSUPP */
	invlock_uring_prep_sendmsg_zc(uring, io_uring_get_sqe(&ring), sockets[0], &msg, 0, &op);
	if (finish(&ring, &op) < 0) {
		/* a socket is a file, too: this copies */
		invlock_uring_prep_writev(uring, io_uring_get_sqe(&ring), sockets[0], pieces, NR, 0,
					  &op);
		finish(&ring, &op);
	}
	invlock_uring_close(uring);
	io_uring_queue_exit(&ring);
	invlock_mm_close(mm);
	free(pool);
	return 0;
}
