/* SPDX-License-Identifier: MIT */
/* Two queue pairs of one process, connected to each other: one RDMA request at a time. */
#ifndef INVLOCK_TESTS_RDMA_LOOP_H
#define INVLOCK_TESTS_RDMA_LOOP_H

#include <infiniband/verbs.h>
#include <stdint.h>

/* what a registration has to allow for the requests below, at either end */
#define LOOP_ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

struct loop {
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp[2];
};

/* @device: its name; NULL = the first. Return: NULL, or what went wrong: then nothing is open */
const char *loop_open(struct loop *loop, const char *device);
void loop_close(struct loop *loop);
/* connects the queue pairs once more, after a request that failed */
const char *loop_connect(struct loop *loop);

/*
 * IBV_WR_RDMA_WRITE from local to remote memory, IBV_WR_RDMA_READ the other way. Return: the status
 * of the completion, or -1
 */
int loop_request(struct loop *loop, enum ibv_wr_opcode opcode, const void *local, uint32_t lkey,
		 const void *remote, uint32_t rkey, uint32_t len);

#endif /* INVLOCK_TESTS_RDMA_LOOP_H */
