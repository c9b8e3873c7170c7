// SPDX-License-Identifier: MIT
/* Sends without a copy, and operations that the program prepares itself. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "rig.h"

#define ROUNDS	200

struct connection {
	int out, in;
};

static void tcp_open(struct connection *tcp)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(at);

	tcp->out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (void *)&at, len) || listen(listener, 1) ||
	    getsockname(listener, (void *)&at, &len) || connect(tcp->out, (void *)&at, len))
		TEST_SKIP("no TCP to this host: %s", strerror(errno));
	tcp->in = accept(listener, NULL, NULL);
	assert_true(tcp->in >= 0);
	close(listener);
}

static void tcp_close(struct connection *tcp)
{
	close(tcp->out);
	close(tcp->in);
}

/* does the other end get len times this byte? */
static bool arrives(const struct connection *tcp, unsigned char byte, size_t len)
{
	static unsigned char got[BUF];

	assert_int_equal(recv(tcp->in, got, len, MSG_WAITALL), (ssize_t)len);
	for (size_t i = 0; i < len; i++)
		if (got[i] != byte)
			return false;
	return true;
}

/* one send, to its last CQE; its result */
static int send_one(struct rig *rig, const struct connection *tcp, const void *buf,
		    unsigned char byte, int *ret_way)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);
	struct invlock_uring_op op;
	struct io_uring_cqe *cqe;
	int res = -EINVAL, more;

	*ret_way = invlock_uring_prep_send_zc(rig->uring, sqe, tcp->out, buf, BUF, MSG_WAITALL, 0,
					      &op);
	assert_int_equal(io_uring_submit(&rig->ring), 1);
	do {
		assert_int_equal(io_uring_wait_cqe(&rig->ring, &cqe), 0);
		if (!(cqe->flags & IORING_CQE_F_NOTIF)) {
			res = cqe->res;
			assert_true(res < 0 || arrives(tcp, byte, res));
		}
		/* the socket may still read it */
		assert_int_equal(uring_stats(rig).in_flight, *ret_way == INVLOCK_URING_FIXED);
		more = cqe->flags & IORING_CQE_F_MORE;
		io_uring_cqe_seen(&rig->ring, cqe);
	} while (more);
	assert_int_equal(invlock_uring_done(&op), 0);
	return res;
}

TEST(what_is_sent_without_a_copy_is_what_the_memory_holds_now)
{
	const struct invlock_uring_options o = {
		.size = sizeof(o), .slots = 2, .align = 1, .flags = INVLOCK_URING_NO_REAPER,
	};
	unsigned char *buf = memory(BUF, 0);
	struct connection tcp;
	struct rig rig;
	int way, res;

	RIG_OPEN(&rig, "manual", 0, &o);
	tcp_open(&tcp);
	for (int i = 0; i < ROUNDS; i++) {
		memset(buf, i, BUF);
		res = send_one(&rig, &tcp, buf, i, &way);
		if (!i && (res == -EINVAL || res == -EOPNOTSUPP)) {
			rig_close(&rig);
			TEST_SKIP("this kernel sends nothing without a copy: before 6.0");
		}
		assert_int_equal(res, BUF);
		assert_int_equal(way, INVLOCK_URING_FIXED);
		if (i % 3)
			continue;
		/* other pages, at the same address */
		invlock_manual_start(rig.mm, buf, BUF);
		assert_ptr_equal(mmap(buf, BUF, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), buf);
		invlock_manual_end(rig.mm, buf, BUF);
	}
	assert_true(cache_stats(&rig).hits >= ROUNDS / 2);

	/* what cannot be registered is sent all the same */
	memset(buf, 7, BUF);
	invlock_manual_start(rig.mm, buf, BUF);
	mprotect(buf, BUF, PROT_READ);
	invlock_manual_end(rig.mm, buf, BUF);
	assert_int_equal(send_one(&rig, &tcp, buf, 7, &way), BUF);
	assert_int_equal(way, INVLOCK_URING_REFUSED);
	tcp_close(&tcp);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST(an_operation_of_the_programs_own_uses_the_slot_that_it_is_told)
{
	unsigned char *buf = memory(BUF, 0);
	struct invlock_uring_op op;
	struct io_uring_sqe *sqe;
	struct rig rig;

	RIG_OPEN(&rig, "manual", 0, NULL);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(invlock_uring_begin(rig.uring, buf, BUF, &op),
				 INVLOCK_URING_FIXED);
		sqe = io_uring_get_sqe(&rig.ring);
		io_uring_prep_read_fixed(sqe, rig.fd, buf, BUF, i * 4096, op.slot);
		io_uring_sqe_set_data(sqe, &op);
		assert_int_equal(finish(&rig), BUF);
		assert_true(holds(buf, i * 4096, BUF));
	}
	assert_int_equal(invlock_uring_begin(rig.uring, buf, 1, &op), INVLOCK_URING_SMALL);
	assert_int_equal(invlock_uring_done(&op), 0);
	assert_int_equal(invlock_uring_begin(NULL, buf, 1, &op), -EINVAL);
	assert_int_equal(invlock_uring_begin(rig.uring, buf, 1, NULL), -EINVAL);
	assert_int_equal(invlock_uring_prep_send_zc(rig.uring, NULL, 0, buf, 1, 0, 0, &op),
			 -EINVAL);
	assert_int_equal(uring_stats(&rig).ways[INVLOCK_URING_FIXED], 3);
	rig_close(&rig);
	munmap(buf, BUF);
}

TEST_MAIN()
