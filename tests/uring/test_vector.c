// SPDX-License-Identifier: MIT
/* Requests on several pieces of memory. */
#include <sys/socket.h>
#include <sys/uio.h>

#include "adapters/uring/adapter.h"
#include "rig.h"
#include "tcp.h"

#define NR	4
#define PIECE	(16 * KIB)

static const struct invlock_uring_options any = {
	.size = sizeof(any), .min_len = 1, .align = 1, .flags = INVLOCK_URING_NO_REAPER,
};

/* while set, the kernel is one that serves no vectors in registered memory */
static bool old_kernel;

/* Replaces the adapter's function. */
bool ring_knows(struct io_uring *ring, unsigned int opcode)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool knows = probe && io_uring_opcode_supported(probe, opcode);

	io_uring_free_probe(probe);
	return knows && !old_kernel;
}

static void open_rig(struct rig *rig, const struct invlock_uring_options *o)
{
	old_kernel = false;
	RIG_OPEN(rig, "manual", 0, o);
	if (rig->uring->vectors)
		return;
	rig_close(rig);
	TEST_SKIP("this kernel serves no vectors in registered memory: before 6.15");
}

static void lay_out(struct iovec *iov, unsigned char *mem, size_t step)
{
	for (int i = 0; i < NR; i++)
		iov[i] = (struct iovec){ .iov_base = mem + i * step, .iov_len = PIECE };
}

static int readv_at(struct rig *rig, int fd, const struct iovec *iov, unsigned int nr,
		    uint64_t offset, int *ret_way)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);
	struct invlock_uring_op op;

	*ret_way = invlock_uring_prep_readv(rig->uring, sqe, fd, iov, nr, offset, &op);
	assert_int_equal(sqe->opcode, *ret_way ? IORING_OP_READV : RING_READV_FIXED);
	io_uring_sqe_set_data(sqe, &op);
	return finish(rig);
}

static bool vector_holds(const struct iovec *iov, unsigned int nr, uint64_t offset)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (!holds(iov[i].iov_base, offset, iov[i].iov_len))
			return false;
		offset += iov[i].iov_len;
	}
	return true;
}

/* Reads into NR pieces, and looks whether they arrived. Return: the way */
static int read_pieces(struct rig *rig, const struct iovec *iov, uint64_t offset)
{
	int way;

	assert_int_equal(readv_at(rig, rig->fd, iov, NR, offset, &way), NR * PIECE);
	assert_true(vector_holds(iov, NR, offset));
	return way;
}

TEST(pieces_of_a_pool_are_read_and_written_through_its_registration)
{
	unsigned char *pool = memory(MIB, 0);
	struct invlock_uring_op op;
	struct io_uring_sqe *sqe;
	struct iovec iov[NR];
	struct rig rig;
	int way, out;

	open_rig(&rig, &any);
	out = known_file(0);
	lay_out(iov, pool, 256 * KIB);
	assert_int_equal(invlock_uring_prime(rig.uring, pool, MIB), INVLOCK_URING_FIXED);
	for (int i = 0; i < 10; i++)
		assert_int_equal(read_pieces(&rig, iov, i * 4096), INVLOCK_URING_FIXED);
	assert_int_equal(cache_stats(&rig).reg_calls, 1);

	assert_int_equal(read_pieces(&rig, iov, MIB), INVLOCK_URING_FIXED);
	sqe = io_uring_get_sqe(&rig.ring);
	way = invlock_uring_prep_writev(rig.uring, sqe, out, iov, NR, 0, &op);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	assert_int_equal(sqe->opcode, RING_WRITEV_FIXED);
	io_uring_sqe_set_data(sqe, &op);
	assert_int_equal(finish(&rig), NR * PIECE);
	memset(pool, 0, MIB);
	assert_int_equal(pread(out, pool, NR * PIECE, 0), NR * PIECE);
	assert_true(holds(pool, MIB, NR * PIECE));
	close(out);
	rig_close(&rig);
	munmap(pool, MIB);
}

TEST(pieces_whose_memory_was_replaced_are_registered_anew)
{
	unsigned char *pool = memory(MIB, 0);
	struct iovec iov[NR];
	struct rig rig;

	open_rig(&rig, &any);
	lay_out(iov, pool, 2 * PIECE);
	for (int i = 0; i < 20; i++) {
		void *piece = iov[i % NR].iov_base;

		assert_int_equal(read_pieces(&rig, iov, i * 4096), INVLOCK_URING_FIXED);
		replace(&rig, piece, PIECE);
	}
	assert_int_equal(cache_stats(&rig).reg_calls, 20);
	rig_close(&rig);
	munmap(pool, MIB);
}

TEST(pieces_far_apart_go_plain_unless_they_are_registered_together)
{
	unsigned char *pool = memory(MIB, 0);
	struct iovec iov[NR];
	struct rig rig;

	open_rig(&rig, &any);
	lay_out(iov, pool, 3 * PIECE);
	assert_int_equal(read_pieces(&rig, iov, 0), INVLOCK_URING_SCATTERED);
	assert_int_equal(cache_stats(&rig).reg_calls, 0);
	/* half of the range is enough */
	lay_out(iov, pool, 2 * PIECE);
	assert_int_equal(read_pieces(&rig, iov, 0), INVLOCK_URING_FIXED);
	lay_out(iov, pool, 3 * PIECE);
	assert_int_equal(invlock_uring_prime(rig.uring, pool, MIB), INVLOCK_URING_FIXED);
	assert_int_equal(read_pieces(&rig, iov, 0), INVLOCK_URING_FIXED);
	rig_close(&rig);
	munmap(pool, MIB);
}

TEST(pieces_with_a_hole_between_them_go_plain)
{
	unsigned char *pool = memory(MIB, 0);
	struct iovec iov[NR];
	struct rig rig;

	open_rig(&rig, &any);
	lay_out(iov, pool, PIECE + 4096);
	munmap(pool + PIECE, 4096);
	assert_int_equal(read_pieces(&rig, iov, 0), INVLOCK_URING_REFUSED);
	assert_int_equal(read_pieces(&rig, iov, MIB), INVLOCK_URING_KNOWN);
	rig_close(&rig);
	munmap(pool, MIB);
}

/* What the kernel answers must be what it answers to a plain request, here for the file's end. */
static void same_as_plain(struct rig *rig, const struct iovec *iov, unsigned int nr, int want_way,
			  int want)
{
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int way, file = known_file(0);

	sqe = io_uring_get_sqe(&rig->ring);
	io_uring_prep_readv(sqe, file, iov, nr, FILE_SIZE - MIB);
	assert_int_equal(io_uring_submit_and_wait(&rig->ring, 1), 1);
	assert_int_equal(io_uring_peek_cqe(&rig->ring, &cqe), 0);
	assert_int_equal(cqe->res, want);
	io_uring_cqe_seen(&rig->ring, cqe);
	assert_int_equal(readv_at(rig, file, iov, nr, FILE_SIZE - MIB, &way), want);
	assert_int_equal(way, want_way);
	close(file);
}

TEST(vectors_that_the_kernel_serves_only_plain_go_plain)
{
	unsigned char *pool = memory(MIB, 0), *large = memory(2 * MIB, 0);
	struct iovec many[1025], iov[NR];
	struct rig rig;

	open_rig(&rig, &any);
	assert_int_equal(invlock_uring_prime(rig.uring, pool, MIB), INVLOCK_URING_FIXED);
	lay_out(iov, pool, PIECE);
	same_as_plain(&rig, iov, NR, INVLOCK_URING_FIXED, NR * PIECE);
	iov[1].iov_len = 0;
	same_as_plain(&rig, iov, NR, INVLOCK_URING_SMALL, (NR - 1) * PIECE);
	same_as_plain(&rig, iov, 0, INVLOCK_URING_SMALL, 0);
	same_as_plain(&rig, NULL, 0, INVLOCK_URING_SMALL, 0);
	iov[1].iov_len = -1ul;
	same_as_plain(&rig, iov, NR, INVLOCK_URING_REFUSED, -EINVAL);
	iov[1].iov_base = (void *)64;
	iov[1].iov_len = PIECE;
	same_as_plain(&rig, iov + 1, 1, INVLOCK_URING_REFUSED, -EFAULT);
	/* more than the kernel takes */
	for (int i = 0; i < 1025; i++)
		many[i] = (struct iovec){ .iov_base = pool + i * 64, .iov_len = 64 };
	same_as_plain(&rig, many, 1024, INVLOCK_URING_FIXED, 1024 * 64);
	same_as_plain(&rig, many, 1025, INVLOCK_URING_FIXED, -EINVAL);
	/* more than the kernel has memory for, when it is to be fixed; the pieces are the same */
	for (int i = 0; i < 1024; i++)
		many[i] = (struct iovec){ .iov_base = large, .iov_len = 2 * MIB };
	assert_int_equal(invlock_uring_prime(rig.uring, large, 2 * MIB), INVLOCK_URING_FIXED);
	same_as_plain(&rig, many, 4, INVLOCK_URING_FIXED, MIB);
	same_as_plain(&rig, many, 1023, INVLOCK_URING_LARGE, MIB);
	same_as_plain(&rig, many, 1024, INVLOCK_URING_LARGE, MIB);
	rig_close(&rig);
	munmap(pool, MIB);
	munmap(large, 2 * MIB);
}

TEST(the_options_are_asked_of_a_vector_as_a_whole_and_of_each_piece)
{
	const struct invlock_uring_options o = {
		.size = sizeof(o), .min_len = 2 * PIECE, .align = 4096,
		.flags = INVLOCK_URING_NO_REAPER,
	};
	unsigned char *pool = memory(MIB, 0);
	struct iovec iov[NR];
	struct rig rig;
	int way;

	open_rig(&rig, &o);
	lay_out(iov, pool, PIECE);
	assert_int_equal(readv_at(&rig, rig.fd, iov, 1, 0, &way), PIECE);
	assert_int_equal(way, INVLOCK_URING_SMALL);
	assert_int_equal(readv_at(&rig, rig.fd, iov, 2, 0, &way), 2 * PIECE);
	assert_int_equal(way, INVLOCK_URING_FIXED);
	iov[1].iov_base = pool + PIECE + 512;
	readv_at(&rig, rig.fd, iov, 2, 0, &way);
	assert_int_equal(way, INVLOCK_URING_UNALIGNED);
	rig_close(&rig);
	munmap(pool, MIB);
}

TEST(a_kernel_without_such_requests_reads_the_same_bytes)
{
	unsigned char *pool = memory(MIB, 0);
	struct iovec iov[NR];
	struct rig rig;

	old_kernel = true;
	RIG_OPEN(&rig, "manual", 0, &any);
	lay_out(iov, pool, 2 * PIECE);
	assert_int_equal(invlock_uring_prime(rig.uring, pool, MIB), INVLOCK_URING_FIXED);
	assert_int_equal(read_pieces(&rig, iov, MIB), INVLOCK_URING_UNSUPPORTED);
	assert_int_equal(uring_stats(&rig).ways[INVLOCK_URING_UNSUPPORTED], 1);
	old_kernel = false;
	rig_close(&rig);
	munmap(pool, MIB);
}

TEST(bad_arguments_are_refused_and_prepare_nothing)
{
	struct msghdr msg = { .msg_iovlen = 1 };
	struct io_uring_sqe sqe = { .opcode = 99 };
	struct invlock_uring_op op;
	struct iovec iov = {};
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, &any);
	assert_int_equal(invlock_uring_prep_readv(NULL, &sqe, 0, &iov, 1, 0, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_readv(rig.uring, NULL, 0, &iov, 1, 0, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_readv(rig.uring, &sqe, 0, NULL, 1, 0, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_writev(rig.uring, &sqe, 0, &iov, 1, 0, NULL), -EINVAL);
	assert_int_equal(invlock_uring_prep_sendmsg_zc(rig.uring, &sqe, 0, NULL, 0, &op), -EINVAL);
	assert_int_equal(invlock_uring_prep_sendmsg_zc(rig.uring, &sqe, 0, &msg, 0, &op), -EINVAL);
	assert_int_equal(sqe.opcode, 99);
	rig_close(&rig);
}

/* ---- sendmsg ---- */

/* one send of NR pieces of this byte, to its last CQE; its result */
static int send_pieces(struct rig *rig, const struct tcp *tcp, struct iovec *iov,
		       unsigned char byte, int *ret_way)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = NR };
	struct invlock_uring_op op;

	for (int i = 0; i < NR; i++)
		memset(iov[i].iov_base, byte, iov[i].iov_len);
	*ret_way = invlock_uring_prep_sendmsg_zc(rig->uring, sqe, tcp->out, &msg, MSG_WAITALL, &op);
	return tcp_finish(rig, tcp, &op, byte);
}

TEST(pieces_are_sent_without_a_copy_as_the_memory_holds_them_now)
{
	unsigned char *pool = memory(MIB, 0);
	struct iovec iov[NR];
	struct tcp tcp;
	struct rig rig;
	int way;

	open_rig(&rig, &any);
	tcp_open(&tcp);
	lay_out(iov, pool, 2 * PIECE);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(send_pieces(&rig, &tcp, iov, i, &way), NR * PIECE);
		assert_int_equal(way, INVLOCK_URING_FIXED);
		if (i % 3)
			continue;
		replace(&rig, pool, MIB);
	}
	lay_out(iov, pool, 3 * PIECE);
	invlock_cache_drop(invlock_uring_cache(rig.uring), pool, MIB);
	assert_int_equal(send_pieces(&rig, &tcp, iov, 99, &way), NR * PIECE);
	assert_int_equal(way, INVLOCK_URING_SCATTERED);
	tcp_close(&tcp);
	rig_close(&rig);
	munmap(pool, MIB);
}

TEST_MAIN()
