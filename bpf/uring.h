/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * io_uring: MADVISE without a system call of its own.
 *
 * It starts when it is submitted, by whichever thread of this mm, and ends when its
 * completion is posted. A request that will post none, or whose completion overflows, has
 * no end: that degrades the feed.
 */
#ifndef INVLOCK_BPF_URING_H
#define INVLOCK_BPF_URING_H

#include "decode.h"

#define IORING_OP_MADVISE	25
/* the low bits of a request's flags are those of its submission */
#define IOSQE_CQE_SKIP_SUCCESS	(1ULL << 6)

struct request {
	u64 ring;
	u64 user_data;
	u64 start;
	u64 end;
	u64 serial;	/* of the user whose it is, */
	u32 index;	/* and its seat then: another may sit there now */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BPF_NR_REQUESTS);
	__type(key, u64);		/* struct io_kiocb * */
	__type(value, struct request);
} requests SEC(".maps");

static inline struct bpf_user *user_of_request(const struct request *r)
{
	struct bpf_user *u = user_at(r->index);

	return u && port_load(&u->state.serial) == r->serial ? u : NULL;
}

/* Return: false when its end is still to be marked: nobody who is there now saw its start */
static inline bool request_end(u64 key)
{
	struct request *r = bpf_map_lookup_elem(&requests, &key);
	struct bpf_set *set = get_set();
	struct bpf_user *u;

	if (!r || !set)
		return false;
	u = user_of_request(r);
	if (u) {
		feed_end_long(u, r->start, r->end);
		port_fetch_add(&u->state.nr_requests, -1ULL);
	}
	bpf_map_delete_elem(&requests, &key);
	port_fetch_add(&set->nr_requests, -1ULL);
	return u;
}

/* the call's own arguments, which lie in the request */
static inline void decode_request(struct change *c, struct io_kiocb *req)
{
	struct io_madvise *m = (void *)req;
	u64 addr = 0, len = 0;
	u32 advice = 0, kind;

	if (!bpf_core_type_exists(struct io_madvise)) {
		change_everything(c, INVLOCK_KIND_URING);
		return;
	}
	/* the length has 32 bits on older kernels */
	bpf_core_read(&addr, sizeof(addr), &m->addr);
	bpf_core_read(&len, bpf_core_field_size(m->len), &m->len);
	bpf_core_read(&advice, sizeof(advice), &m->advice);
	kind = advice_kind(advice);
	if (kind)
		change_pages(c, addr, len, INVLOCK_KIND_URING);
}

static inline int request_start(struct io_kiocb *req)
{
	struct bpf_set *set = get_set();
	struct change c = {};
	struct request r = {};
	u64 key = (u64)req, flags = 0;
	struct bpf_user *u;

	if (BPF_CORE_READ(req, opcode) != IORING_OP_MADVISE || !set)
		return 0;
	u = user_of(mm_of(bpf_get_current_task_btf()));
	if (!u)
		return 0;
	decode_request(&c, req);
	if (!c.nr)
		return 0;
	/* the struct is used again: its last request is over */
	request_end(key);
	r.ring = (u64)BPF_CORE_READ(req, ctx);
	r.user_data = BPF_CORE_READ(req, cqe.user_data);
	r.start = c.range[0].start;
	r.end = c.range[0].end;
	r.serial = u->state.serial;
	r.index = u->state.index;
	bpf_core_read(&flags, bpf_core_field_size(req->flags), &req->flags);
	if ((flags & IOSQE_CQE_SKIP_SUCCESS) ||
	    bpf_map_update_elem(&requests, &key, &r, BPF_ANY)) {
		feed_close(u, INVLOCK_FEED_DEGRADED);
		return 0;
	}
	port_fetch_add(&set->nr_requests, 1);
	port_fetch_add(&u->state.nr_requests, 1);
	feed_start_long(u, r.start, r.end, INVLOCK_KIND_URING, (u32)bpf_get_current_pid_tgid());
	return 0;
}

/* one of these two exists; the library loads the one that does */
SEC("?tp_btf/io_uring_submit_req")
int BPF_PROG(request_submitted, struct io_kiocb *req)
{
	return request_start(req);
}

SEC("?tp_btf/io_uring_submit_sqe")
int BPF_PROG(request_submitted_old, struct io_kiocb *req)
{
	return request_start(req);
}

SEC("?raw_tp/io_uring_complete")
int request_completed(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_kiocb *req = (void *)ctx->args[1];
	struct change c = {};
	struct bpf_user *u;

	/* a completion that belongs to no request */
	if (!req || BPF_CORE_READ(req, opcode) != IORING_OP_MADVISE)
		return 0;
	if (request_end((u64)req))
		return 0;
	u = user_of(mm_of(bpf_get_current_task_btf()));
	if (!u)
		return 0;
	decode_request(&c, req);
	/* submitted before the monitor was opened */
	if (c.nr)
		feed_bump(u, c.range[0].start, c.range[0].end, INVLOCK_KIND_URING);
	return 0;
}

struct overflow {
	u64 ring;
	u64 user_data;
};

static long overflow_hits(void *map, u64 *key, struct request *r, struct overflow *o)
{
	if (r->ring != o->ring || r->user_data != o->user_data)
		return 0;
	feed_close(user_of_request(r), INVLOCK_FEED_DEGRADED);
	return 1;
}

SEC("?raw_tp/io_uring_cqe_overflow")
int completion_overflows(struct bpf_raw_tracepoint_args *ctx)
{
	struct overflow o = { ctx->args[0], ctx->args[1] };
	struct bpf_set *set = get_set();

	if (set && port_load(&set->nr_requests))
		bpf_for_each_map_elem(&requests, overflow_hits, &o, 0);
	return 0;
}

#endif /* INVLOCK_BPF_URING_H */
