/* SPDX-License-Identifier: MIT */
/* A connection to this host, and sends on it that have two CQEs. */
#ifndef INVLOCK_TESTS_URING_TCP_H
#define INVLOCK_TESTS_URING_TCP_H

#include "rig.h"

struct tcp {
	int out, in;
};

/* Skips the test where there is no TCP. */
void tcp_open(struct tcp *tcp);
void tcp_close(struct tcp *tcp);

/*
 * Submits the one send that is prepared, and takes its CQEs to the last. What the other end gets
 * must be this byte alone, at most BUF times. Return: the result
 */
int tcp_finish(struct rig *rig, const struct tcp *tcp, struct invlock_uring_op *op,
	       unsigned char byte);

#endif /* INVLOCK_TESTS_URING_TCP_H */
