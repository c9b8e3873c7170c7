// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tcp.h"

void tcp_open(struct tcp *tcp)
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

void tcp_close(struct tcp *tcp)
{
	close(tcp->out);
	close(tcp->in);
}

/* does the other end get len times this byte? */
static bool arrives(const struct tcp *tcp, unsigned char byte, size_t len)
{
	static unsigned char got[BUF];

	assert_int_equal(recv(tcp->in, got, len, MSG_WAITALL), (ssize_t)len);
	for (size_t i = 0; i < len; i++)
		if (got[i] != byte)
			return false;
	return true;
}

int tcp_finish(struct rig *rig, const struct tcp *tcp, struct invlock_uring_op *op,
	       unsigned char byte)
{
	bool fixed = op->way == INVLOCK_URING_FIXED;
	struct io_uring_cqe *cqe;
	int res = -EINVAL, more;

	assert_int_equal(io_uring_submit(&rig->ring), 1);
	do {
		assert_int_equal(io_uring_wait_cqe(&rig->ring, &cqe), 0);
		if (!(cqe->flags & IORING_CQE_F_NOTIF)) {
			res = cqe->res;
			assert_true(res < 0 || arrives(tcp, byte, res));
		}
		/* the socket may still read it */
		assert_int_equal(uring_stats(rig).in_flight, fixed);
		more = cqe->flags & IORING_CQE_F_MORE;
		io_uring_cqe_seen(&rig->ring, cqe);
	} while (more);
	assert_int_equal(invlock_uring_done(op), 0);
	return res;
}
