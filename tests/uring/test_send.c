// SPDX-License-Identifier: MIT
/* Sends without a copy, and operations that the program prepares itself. */
#include <sys/socket.h>

#include "rig.h"
#include "tcp.h"

#define ROUNDS	200

/* one send, to its last CQE; its result */
static int send_one(struct rig *rig, const struct tcp *tcp, const void *buf, unsigned char byte,
		    int *ret_way)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rig->ring);
	struct invlock_uring_op op;

	*ret_way = invlock_uring_prep_send_zc(rig->uring, sqe, tcp->out, buf, BUF, MSG_WAITALL, 0,
					      &op);
	return tcp_finish(rig, tcp, &op, byte);
}

TEST(what_is_sent_without_a_copy_is_what_the_memory_holds_now)
{
	const struct invlock_uring_options o = {
		.size = sizeof(o), .slots = 2, .align = 1, .flags = INVLOCK_URING_NO_REAPER,
	};
	unsigned char *buf = memory(BUF, 0);
	struct tcp tcp;
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
		replace(&rig, buf, BUF);
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
