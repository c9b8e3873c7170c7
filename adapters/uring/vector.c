// SPDX-License-Identifier: MIT
/* Requests on several pieces of memory, which have to lie in one registration to be fixed. */
#include <errno.h>
#include <sys/socket.h>

#include "adapter.h"

/*
 * For a vector in registered memory the kernel allocates 16 bytes for each page, in one piece.
 * When it has no such piece, as it often has none above 32 KiB, the request fails with -ENOMEM,
 * where a plain one is served.
 */
#define VECTOR_MAX	(8u << 20)

/* from the first piece to the last one */
struct span {
	uint64_t start, end;
	uint64_t used;		/* bytes of the pieces */
	bool empty;		/* there is an empty piece */
	bool wraps;		/* a piece is not in the address space */
	uint64_t bits;		/* those that are set in some piece's address */
};

static struct span span_of(const struct iovec *iov, size_t nr)
{
	struct span s = { .start = UINT64_MAX };

	for (size_t i = 0; i < nr; i++) {
		uint64_t start = (unsigned long)iov[i].iov_base, end = start + iov[i].iov_len;

		s.empty |= !iov[i].iov_len;
		s.wraps |= end < start;
		s.used += iov[i].iov_len;
		s.bits |= start;
		s.start = start < s.start ? start : s.start;
		s.end = end > s.end ? end : s.end;
	}
	return s;
}

/* Return: a way or -errno */
static int choose_vector(struct invlock_uring *uring, const struct span *s, struct invlock_pin *pin)
{
	if (s->wraps)
		return choose_plain(uring, INVLOCK_URING_REFUSED);
	if (s->empty || s->used < uring->min_len)
		return choose_plain(uring, INVLOCK_URING_SMALL);
	if (s->used > VECTOR_MAX)
		return choose_plain(uring, INVLOCK_URING_LARGE);
	if (s->bits & uring->align_mask)
		return choose_plain(uring, INVLOCK_URING_UNALIGNED);
	if (!uring->vectors)
		return choose_plain(uring, INVLOCK_URING_UNSUPPORTED);
	return choose_span(uring, (void *)(unsigned long)s->start, s->end - s->start,
			   s->used >= (s->end - s->start) / 2, pin);
}

/* Return: a way or -errno */
static int begin_vector(struct invlock_uring *uring, const struct io_uring_sqe *sqe,
			const struct iovec *iov, size_t nr, struct invlock_uring_op *op)
{
	struct span span;
	int way;

	if (!uring || !sqe || !op || (!iov && nr))
		return -EINVAL;
	span = span_of(iov, nr);
	span.empty |= !nr;
	way = choose_vector(uring, &span, &op->pin);
	return way < 0 ? way : op_begins(uring, way, op);
}

int invlock_uring_prep_readv(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			     const struct iovec *iov, unsigned int nr, uint64_t offset,
			     struct invlock_uring_op *op)
{
	int way = begin_vector(uring, sqe, iov, nr, op);

	if (way < 0)
		return way;
	io_uring_prep_readv(sqe, fd, iov, nr, offset);
	if (way == INVLOCK_URING_FIXED) {
		sqe->opcode = RING_READV_FIXED;
		sqe->buf_index = op->slot;
	}
	return way;
}

int invlock_uring_prep_writev(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			      const struct iovec *iov, unsigned int nr, uint64_t offset,
			      struct invlock_uring_op *op)
{
	int way = begin_vector(uring, sqe, iov, nr, op);

	if (way < 0)
		return way;
	io_uring_prep_writev(sqe, fd, iov, nr, offset);
	if (way == INVLOCK_URING_FIXED) {
		sqe->opcode = RING_WRITEV_FIXED;
		sqe->buf_index = op->slot;
	}
	return way;
}

int invlock_uring_prep_sendmsg_zc(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
				  const struct msghdr *msg, unsigned int flags,
				  struct invlock_uring_op *op)
{
	int way = msg ? begin_vector(uring, sqe, msg->msg_iov, msg->msg_iovlen, op) : -EINVAL;

	if (way < 0)
		return way;
	io_uring_prep_sendmsg_zc(sqe, fd, msg, flags);
	if (way == INVLOCK_URING_FIXED) {
		sqe->ioprio |= IORING_RECVSEND_FIXED_BUF;
		sqe->buf_index = op->slot;
	}
	return way;
}
