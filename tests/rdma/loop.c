// SPDX-License-Identifier: MIT
#include "loop.h"

#include <string.h>

#define PORT	1
#define GID	1	/* of Soft RoCE: RoCE v2 over IPv4 */

/* @name: NULL = the first one */
static struct ibv_context *open_device(const char *name)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *context = NULL;

	for (int i = 0; list && list[i] && !context; i++)
		if (!name || !strcmp(ibv_get_device_name(list[i]), name))
			context = ibv_open_device(list[i]);
	if (list)
		ibv_free_device_list(list);
	return context;
}

/* each step of the connection of a queue pair to @peer; 0 on success */
static int connect_pair(struct ibv_qp *qp, uint32_t peer, const union ibv_gid *gid,
			enum ibv_mtu mtu)
{
	struct ibv_qp_attr init = {
		.qp_state = IBV_QPS_INIT,
		.port_num = PORT,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ,
	};
	struct ibv_qp_attr receive = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = mtu,
		.dest_qp_num = peer,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.ah_attr = {
			.is_global = 1,
			.port_num = PORT,
			.grh = { .dgid = *gid, .sgid_index = GID, .hop_limit = 1 },
		},
	};
	struct ibv_qp_attr send = {
		.qp_state = IBV_QPS_RTS,
		.timeout = 18,	/* a second, as a busy machine may leave a CPU out for long */
		.retry_cnt = 7,
		.rnr_retry = 7,
		.max_rd_atomic = 1,
	};

	return ibv_modify_qp(qp, &init, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			     IBV_QP_ACCESS_FLAGS) ||
	       ibv_modify_qp(qp, &receive, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
			     IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			     IBV_QP_MIN_RNR_TIMER) ||
	       ibv_modify_qp(qp, &send, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			     IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

static const char *connect_pairs(struct loop *loop)
{
	struct ibv_port_attr port;
	union ibv_gid gid;

	if (ibv_query_gid(loop->context, PORT, GID, &gid) ||
	    ibv_query_port(loop->context, PORT, &port))
		return "the port has no address";
	for (int i = 0; i < 2; i++)
		if (connect_pair(loop->qp[i], loop->qp[!i]->qp_num, &gid, port.active_mtu))
			return "the queue pairs do not connect";
	return NULL;
}

const char *loop_connect(struct loop *loop)
{
	struct ibv_qp_attr reset = { .qp_state = IBV_QPS_RESET };

	for (int i = 0; i < 2; i++)
		if (ibv_modify_qp(loop->qp[i], &reset, IBV_QP_STATE))
			return "a queue pair cannot be reset";
	return connect_pairs(loop);
}

static const char *make(struct loop *loop)
{
	loop->pd = ibv_alloc_pd(loop->context);
	loop->cq = ibv_create_cq(loop->context, 16, NULL, NULL, 0);
	if (!loop->pd || !loop->cq)
		return "no protection domain or completion queue";
	for (int i = 0; i < 2; i++) {
		struct ibv_qp_init_attr attr = {
			.send_cq = loop->cq,
			.recv_cq = loop->cq,
			.qp_type = IBV_QPT_RC,
			.cap = { .max_send_wr = 8, .max_recv_wr = 8, .max_send_sge = 1,
				 .max_recv_sge = 1 },
		};

		loop->qp[i] = ibv_create_qp(loop->pd, &attr);
		if (!loop->qp[i])
			return "no queue pair";
	}
	return connect_pairs(loop);
}

const char *loop_open(struct loop *loop, const char *device)
{
	const char *error;

	memset(loop, 0, sizeof(*loop));
	loop->context = open_device(device);
	if (!loop->context)
		return "there is no RDMA device";
	error = make(loop);
	if (error)
		loop_close(loop);
	return error;
}

void loop_close(struct loop *loop)
{
	for (int i = 0; i < 2; i++)
		if (loop->qp[i])
			ibv_destroy_qp(loop->qp[i]);
	if (loop->cq)
		ibv_destroy_cq(loop->cq);
	if (loop->pd)
		ibv_dealloc_pd(loop->pd);
	ibv_close_device(loop->context);
}

int loop_request(struct loop *loop, enum ibv_wr_opcode opcode, const void *local, uint32_t lkey,
		 const void *remote, uint32_t rkey, uint32_t len)
{
	struct ibv_sge piece = { (uintptr_t)local, len, lkey };
	struct ibv_send_wr *bad, request = {
		.sg_list = &piece,
		.num_sge = 1,
		.opcode = opcode,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = { .remote_addr = (uintptr_t)remote, .rkey = rkey },
	};
	struct ibv_wc done;
	int nr;

	if (ibv_post_send(loop->qp[0], &request, &bad))
		return -1;
	do {
		nr = ibv_poll_cq(loop->cq, 1, &done);
	} while (!nr);
	return nr < 0 ? -1 : (int)done.status;
}
