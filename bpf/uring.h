/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * io_uring: MADVISE without a system call of its own.
 *
 * A request starts when any thread of this mm submits it. It ends when its completion is posted, or
 * when a request that it waits for has failed: it will then never run, and perhaps no completion is
 * posted for it. If the process wants no completion for a request, or if its completion overflows,
 * the request has no end: that degrades the feed.
 *
 * Each user has a table of requests, so that no process can fill the table of another.
 */
#ifndef INVLOCK_BPF_URING_H
#define INVLOCK_BPF_URING_H

#include "decode.h"

#define IORING_OP_MADVISE	25
/* The low bits of a request's flags are the flags of its submission. */
#define IOSQE_CQE_SKIP_SUCCESS	(1ULL << 6)

#define REQUEST_PROBES	32

static inline struct bpf_request *request_at(struct bpf_tables *t, u64 req, u32 i)
{
	u32 home = (u32)(req * 0x9e3779b97f4a7c15ULL >> 32);

	return &t->requests[(home + i) & (BPF_NR_REQUESTS - 1)];
}

/* Return: the entry of a request; NULL = the request is not this user's. */
static inline struct bpf_request *find_request(struct bpf_user *u, u64 req)
{
	struct bpf_tables *t;

	if (!port_load(&u->state.nr_requests))
		return NULL;
	t = tables_of(u);
	if (!t)
		return NULL;
	for (u32 i = 0; i < REQUEST_PROBES; i++) {
		struct bpf_request *r = request_at(t, req, i);

		if (port_load(&r->req) == req)
			return r;
	}
	return NULL;
}

__noinline int user_has_request(struct bpf_user *u, u64 req)
{
	return u && find_request(u, req);
}

/* Return: 1 = the request was this seat's; 0 = it was not. */
__noinline int seat_ends_request(u32 seat, u64 req)
{
	struct bpf_user *u = armed_at(seat);
	struct bpf_request *r = u ? find_request(u, req) : NULL;

	if (!r)
		return 0;
	feed_end_slow(u, r->start, r->end);
	r->ring = 0;
	port_fetch_add(&u->state.nr_requests, -1ULL);
	port_store_release(&r->req, 0);
	return 1;
}

VISITOR(end_request, seat_ends_request(seat, v->a))

/*
 * Return: 0 = no present user saw the start of this request, so the caller must still mark its end.
 */
static __noinline int request_end(u64 req)
{
	struct visit v = { .a = req };

	/* A request may end on a thread of any mm, or on a thread without an mm. */
	visit(end_request, &v);
	return v.stopped;
}

/* Return: an entry for a request; NULL = too many requests run. */
static inline struct bpf_request *claim_request(struct bpf_user *u, u64 req)
{
	struct bpf_tables *t = tables_of(u);

	if (!t)
		return NULL;
	for (u32 i = 0; i < REQUEST_PROBES; i++) {
		struct bpf_request *r = request_at(t, req, i);

		if (!port_load(&r->req) && !port_cmpxchg(&r->req, 0, req))
			return r;
	}
	return NULL;
}

/* Decode the arguments of madvise(), which lie in the request. */
static inline void decode_request(struct change *c, struct io_kiocb *req)
{
	struct io_madvise *m = (void *)req;
	u64 addr = 0, len = 0;
	u32 advice = 0, kind;

	if (!bpf_core_type_exists(struct io_madvise)) {
		change_everything(c, INVLOCK_KIND_URING);
		return;
	}
	/* On older kernels the length has 32 bits. */
	bpf_core_read(&addr, sizeof(addr), &m->addr);
	bpf_core_read(&len, bpf_core_field_size(m->len), &m->len);
	bpf_core_read(&advice, sizeof(advice), &m->advice);
	kind = advice_kind(advice);
	if (kind)
		change_pages(c, addr, len, INVLOCK_KIND_URING);
}

static inline int request_start(struct io_kiocb *req)
{
	u64 key = number_of(req), flags = 0;
	struct bpf_request *r;
	struct change c = {};
	struct bpf_user *u;

	if (BPF_CORE_READ(req, opcode) != IORING_OP_MADVISE)
		return 0;
	u = user_of(mm_of(bpf_get_current_task_btf()));
	if (!u)
		return 0;
	decode_request(&c, req);
	if (!c.nr)
		return 0;
	/* The kernel reuses this struct, so its previous request is over. */
	request_end(key);
	bpf_core_read(&flags, bpf_core_field_size(req->flags), &req->flags);
	r = flags & IOSQE_CQE_SKIP_SUCCESS ? NULL : claim_request(u, key);
	if (!r) {
		feed_close(u, BPF_CLOSED_REQUESTS);
		return 0;
	}
	r->user_data = BPF_CORE_READ(req, cqe.user_data);
	r->start = c.range[0].start;
	r->end = c.range[0].end;
	r->ring = (u64)BPF_CORE_READ(req, ctx);
	port_fetch_add(&u->state.nr_requests, 1);
	feed_start_slow(u, r->start, r->end, INVLOCK_KIND_URING, (u32)bpf_get_current_pid_tgid());
	return 0;
}

/* A kernel has one of these two tracepoints. The library loads the program for that one. */
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

	/* A completion may belong to no request. */
	if (!req || BPF_CORE_READ(req, opcode) != IORING_OP_MADVISE)
		return 0;
	if (request_end((u64)req))
		return 0;
	u = user_of(mm_of(bpf_get_current_task_btf()));
	if (!u)
		return 0;
	decode_request(&c, req);
	/* The request was submitted before the monitor was opened. */
	if (c.nr)
		feed_bump(u, c.range[0].start, c.range[0].end, INVLOCK_KIND_URING);
	return 0;
}

/* A request fails because it waits for another one that has failed. */
SEC("?raw_tp/io_uring_fail_link")
int link_fails(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_kiocb *link = (void *)ctx->args[1];

	if (BPF_CORE_READ(link, opcode) == IORING_OP_MADVISE)
		request_end((u64)link);
	return 0;
}

struct overflow {
	struct bpf_user *u;
	struct bpf_tables *t;
	u64 ring;
	u64 user_data;
};

static long overflow_hits(u32 i, struct overflow *o)
{
	struct bpf_request *r = &o->t->requests[i & (BPF_NR_REQUESTS - 1)];

	if (!port_load(&r->req) || r->ring != o->ring || r->user_data != o->user_data)
		return 0;
	feed_close(o->u, BPF_CLOSED_REQUESTS);
	return 1;
}

__noinline int seat_overflows(u32 seat, u64 ring, u64 user_data)
{
	struct bpf_user *u = armed_at(seat);
	struct overflow o = { .u = u, .ring = ring, .user_data = user_data };

	if (!u || !port_load(&u->state.nr_requests))
		return 0;
	o.t = tables_of(u);
	if (o.t)
		bpf_loop(BPF_NR_REQUESTS, overflow_hits, &o, 0);
	return 0;
}

VISITOR(overflow_group, seat_overflows(seat, v->a, v->b))

SEC("?raw_tp/io_uring_cqe_overflow")
int completion_overflows(struct bpf_raw_tracepoint_args *ctx)
{
	struct visit v = { .a = ctx->args[0], .b = ctx->args[1] };

	visit(overflow_group, &v);
	return 0;
}

#endif /* INVLOCK_BPF_URING_H */
