// SPDX-License-Identifier: MIT
/*
 * Every way in which UCX takes memory of a program, called by a program that knows nothing of
 * invlock. The memory on one side or on both changes between two messages.
 *
 * usage: ucx_calls MESSAGES	the number for each call
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "torn.h"
#include "ucx_ends.h"

#define LEN	65536
#define TAG	5
#define OLD_ID	1	/* of the handlers of active messages */
#define NEW_ID	2

static size_t request_size;
static const ucp_request_param_t plain;

/* What one side registers once and never changes, and the other reaches by its key. */
static char *peer;
static ucp_mem_h peer_handle;
static ucp_rkey_h peer_key;
static uint64_t *counter;

static void finish(void *request)
{
	finish_request(request, "request");
}

static void finish_both(void *send, void *receive)
{
	finish(send);
	finish(receive);
}

/* For operations without a request. */
static void flush(ucs_status_t status)
{
	if (status != UCS_INPROGRESS)
		check(status, "operation");
	finish(ucp_ep_flush_nbx(ends[0].ep, &plain));
}

static void sent(__attribute__((unused)) void *request, __attribute__((unused)) ucs_status_t status)
{
}

static void received(__attribute__((unused)) void *request,
		     __attribute__((unused)) ucs_status_t status,
		     __attribute__((unused)) ucp_tag_recv_info_t *info)
{
}

static void streamed(__attribute__((unused)) void *request,
		     __attribute__((unused)) ucs_status_t status,
		     __attribute__((unused)) size_t len)
{
}

/* Tags. */

static void tag(char *from, char *to)
{
	void *receive = ucp_tag_recv_nbx(ends[1].worker, to, LEN, TAG, -1, &plain);

	finish_both(ucp_tag_send_nbx(ends[0].ep, from, LEN, TAG, &plain), receive);
}

static void tag_sync(char *from, char *to)
{
	void *receive = ucp_tag_recv_nbx(ends[1].worker, to, LEN, TAG, -1, &plain);

	finish_both(ucp_tag_send_sync_nbx(ends[0].ep, from, LEN, TAG, &plain), receive);
}

static void tag_nb(char *from, char *to)
{
	void *receive = ucp_tag_recv_nb(ends[1].worker, to, LEN, ucp_dt_make_contig(1), TAG, -1,
					received);

	finish_both(ucp_tag_send_nb(ends[0].ep, from, LEN, ucp_dt_make_contig(1), TAG, sent),
		    receive);
}

static void tag_sync_nb(char *from, char *to)
{
	/* elements of 8 bytes */
	void *receive = ucp_tag_recv_nb(ends[1].worker, to, LEN / 8, ucp_dt_make_contig(8), TAG, -1,
					received);

	finish_both(ucp_tag_send_sync_nb(ends[0].ep, from, LEN / 8, ucp_dt_make_contig(8), TAG,
					 sent), receive);
}

/* With requests of the program, which end where UCX is told that they are. */
static void tag_nbr(char *from, char *to)
{
	char *memory = calloc(2, request_size);
	void *send = memory + request_size, *receive = memory + 2 * request_size;
	ucs_status_t sending, receiving;

	check(ucp_tag_recv_nbr(ends[1].worker, to, LEN, ucp_dt_make_contig(1), TAG, -1, receive),
	      "receive");
	/* UCX says of a receive only that it has begun, but a send may be done */
	receiving = UCS_INPROGRESS;
	sending = ucp_tag_send_nbr(ends[0].ep, from, LEN, ucp_dt_make_contig(1), TAG, send);
	while (sending == UCS_INPROGRESS || receiving == UCS_INPROGRESS) {
		progress();
		if (sending == UCS_INPROGRESS)
			sending = ucp_request_check_status(send);
		if (receiving == UCS_INPROGRESS)
			receiving = ucp_request_check_status(receive);
	}
	check(sending, "send");
	check(receiving, "receive");
	free(memory);
}

static ucp_tag_message_h probe(void)
{
	ucp_tag_message_h message;
	ucp_tag_recv_info_t info;

	while (!(message = ucp_tag_probe_nb(ends[1].worker, TAG, -1, 1, &info)))
		progress();
	return message;
}

static void tag_message(char *from, char *to)
{
	void *send = ucp_tag_send_nbx(ends[0].ep, from, LEN, TAG, &plain);

	finish_both(send, ucp_tag_msg_recv_nbx(ends[1].worker, to, LEN, probe(), &plain));
}

static void tag_message_nb(char *from, char *to)
{
	void *send = ucp_tag_send_nbx(ends[0].ep, from, LEN, TAG, &plain);

	finish_both(send, ucp_tag_msg_recv_nb(ends[1].worker, to, LEN, ucp_dt_make_contig(1),
					      probe(), received));
}

/* Lists of pieces. */

struct pieces { ucp_dt_iov_t list[3]; };

static struct pieces pieces_of(char *mem)
{
	return (struct pieces){
		{ { mem, 16384 }, { mem + 16384, 32768 }, { mem + 49152, 16384 } },
	};
}

static void tag_pieces(char *from, char *to)
{
	const ucp_request_param_t list = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_DATATYPE, .datatype = ucp_dt_make_iov(),
	};
	struct pieces source = pieces_of(from), target = pieces_of(to);
	void *receive = ucp_tag_recv_nbx(ends[1].worker, target.list, 3, TAG, -1, &list);

	finish_both(ucp_tag_send_nbx(ends[0].ep, source.list, 3, TAG, &list), receive);
}

static void tag_pieces_nb(char *from, char *to)
{
	struct pieces source = pieces_of(from), target = pieces_of(to);
	void *receive = ucp_tag_recv_nb(ends[1].worker, target.list, 3, ucp_dt_make_iov(), TAG, -1,
					received);

	finish_both(ucp_tag_send_nb(ends[0].ep, source.list, 3, ucp_dt_make_iov(), TAG, sent),
		    receive);
}

/* Streams. */

static void stream(char *from, char *to)
{
	const ucp_request_param_t all = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_STREAM_RECV_FLAG_WAITALL,
	};
	size_t len;
	void *receive = ucp_stream_recv_nbx(ends[1].ep, to, LEN, &len, &all);

	finish_both(ucp_stream_send_nbx(ends[0].ep, from, LEN, &plain), receive);
}

static void stream_nb(char *from, char *to)
{
	size_t len;
	void *receive = ucp_stream_recv_nb(ends[1].ep, to, LEN, ucp_dt_make_contig(1), streamed,
					   &len, UCP_STREAM_RECV_FLAG_WAITALL);

	finish_both(ucp_stream_send_nb(ends[0].ep, from, LEN, ucp_dt_make_contig(1), sent, 0),
		    receive);
}

/* Active messages. */

static struct { bool came; void *later; char *to; } arrival;

static ucs_status_t arrived(__attribute__((unused)) void *arg,
			    __attribute__((unused)) const void *head,
			    __attribute__((unused)) size_t head_len, void *data, size_t len,
			    const ucp_am_recv_param_t *param)
{
	arrival.came = true;
	if (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) {
		arrival.later = data;
		return UCS_INPROGRESS;
	}
	memcpy(arrival.to, data, len);
	return UCS_OK;
}

static ucs_status_t arrived_nb(__attribute__((unused)) void *arg, void *data, size_t len,
			       __attribute__((unused)) ucp_ep_h ep,
			       __attribute__((unused)) unsigned int flags)
{
	arrival.came = true;
	memcpy(arrival.to, data, len);
	return UCS_OK;
}

static void active(char *from, char *to)
{
	void *send, *receive = NULL;

	arrival = (__typeof__(arrival)){ .to = to };
	send = ucp_am_send_nbx(ends[0].ep, NEW_ID, "head", 4, from, LEN, &plain);
	while (!arrival.came)
		progress();
	if (arrival.later)
		receive = ucp_am_recv_data_nbx(ends[1].worker, arrival.later, to, LEN, &plain);
	finish_both(send, receive);
}

static void active_nb(char *from, char *to)
{
	void *send;

	arrival = (__typeof__(arrival)){ .to = to };
	send = ucp_am_send_nb(ends[0].ep, OLD_ID, from, LEN, ucp_dt_make_contig(1), sent, 0);
	while (!arrival.came)
		progress();
	finish(send);
}

/* Memory of the other side, which is reached by a key. */

static void put(char *from, __attribute__((unused)) char *to)
{
	finish(ucp_put_nbx(ends[0].ep, from, LEN, (uintptr_t)peer, peer_key, &plain));
	flush(UCS_OK);
}

static void put_nb(char *from, __attribute__((unused)) char *to)
{
	finish(ucp_put_nb(ends[0].ep, from, LEN, (uintptr_t)peer, peer_key, sent));
	flush(UCS_OK);
}

static void put_nbi(char *from, __attribute__((unused)) char *to)
{
	flush(ucp_put_nbi(ends[0].ep, from, LEN, (uintptr_t)peer, peer_key));
}

static void put_wait(char *from, __attribute__((unused)) char *to)
{
	flush(ucp_put(ends[0].ep, from, LEN, (uintptr_t)peer, peer_key));
}

static void get(__attribute__((unused)) char *from, char *to)
{
	finish(ucp_get_nbx(ends[0].ep, to, LEN, (uintptr_t)peer, peer_key, &plain));
}

static void get_nb(__attribute__((unused)) char *from, char *to)
{
	finish(ucp_get_nb(ends[0].ep, to, LEN, (uintptr_t)peer, peer_key, sent));
}

static void get_nbi(__attribute__((unused)) char *from, char *to)
{
	flush(ucp_get_nbi(ends[0].ep, to, LEN, (uintptr_t)peer, peer_key));
}

static void get_wait(__attribute__((unused)) char *from, char *to)
{
	flush(ucp_get(ends[0].ep, to, LEN, (uintptr_t)peer, peer_key));
}

static ucp_rkey_h map(void *mem, size_t len, ucp_mem_h *ret_handle)
{
	ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
		.address = mem, .length = len,
	};
	size_t packed_len;
	ucp_rkey_h key;
	void *packed;

	check(ucp_mem_map(context, &params, ret_handle), "map");
	check(ucp_rkey_pack(context, *ret_handle, &packed, &packed_len), "pack");
	check(ucp_ep_rkey_unpack(ends[0].ep, packed, &key), "unpack");
	ucp_rkey_buffer_release(packed);
	return key;
}

/* The other side maps its memory for each message, as UCX's cache invites it to do. */
static void mem_map(__attribute__((unused)) char *from, char *to)
{
	ucp_mem_h handle;
	ucp_rkey_h key = map(to, LEN, &handle);

	finish(ucp_put_nbx(ends[0].ep, peer, LEN, (uintptr_t)to, key, &plain));
	flush(UCS_OK);
	ucp_rkey_destroy(key);
	check(ucp_mem_unmap(context, handle), "unmap");
}

/* The result is the value that the counter had: the bytes of the message, eight times. */

static void atomic(__attribute__((unused)) char *from, char *to)
{
	const ucp_request_param_t reply = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_REPLY_BUFFER | UCP_OP_ATTR_FIELD_DATATYPE,
		.reply_buffer = to, .datatype = ucp_dt_make_contig(8),
	};
	uint64_t one = 1;

	finish(ucp_atomic_op_nbx(ends[0].ep, UCP_ATOMIC_OP_ADD, &one, 1, (uintptr_t)counter,
				 peer_key, &reply));
}

static void atomic_nb(__attribute__((unused)) char *from, char *to)
{
	finish(ucp_atomic_fetch_nb(ends[0].ep, UCP_ATOMIC_FETCH_OP_FADD, 1, to, 8,
				   (uintptr_t)counter, peer_key, sent));
}

enum sides { BOTH, SOURCE, TARGET, RESULT };

static const struct call {
	const char *name;
	void (*run)(char *from, char *to);
	enum sides torn;		/* the other side is what the peer has registered */
} calls[] = {
	{ "tag", tag, BOTH }, { "tag_sync", tag_sync, BOTH }, { "tag_nb", tag_nb, BOTH },
	{ "tag_sync_nb", tag_sync_nb, BOTH }, { "tag_nbr", tag_nbr, BOTH },
	{ "tag_message", tag_message, BOTH }, { "tag_message_nb", tag_message_nb, BOTH },
	{ "tag_pieces", tag_pieces, BOTH }, { "tag_pieces_nb", tag_pieces_nb, BOTH },
	{ "stream", stream, BOTH }, { "stream_nb", stream_nb, BOTH },
	{ "active", active, BOTH }, { "active_nb", active_nb, BOTH },
	{ "put", put, SOURCE }, { "put_nb", put_nb, SOURCE }, { "put_nbi", put_nbi, SOURCE },
	{ "put_wait", put_wait, SOURCE },
	{ "get", get, TARGET }, { "get_nb", get_nb, TARGET }, { "get_nbi", get_nbi, TARGET },
	{ "get_wait", get_wait, TARGET },
	{ "mem_map", mem_map, TARGET },
	{ "atomic", atomic, RESULT }, { "atomic_nb", atomic_nb, RESULT },
};

#define NR_CALLS	(sizeof(calls) / sizeof(calls[0]))

static void handle_messages(ucp_worker_h worker)
{
	ucp_am_handler_param_t handler = {
		.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB,
		.id = NEW_ID, .cb = arrived,
	};

	check(ucp_worker_set_am_recv_handler(worker, &handler), "handler");
	check(ucp_worker_set_am_handler(worker, OLD_ID, arrived_nb, NULL, UCP_AM_FLAG_WHOLE_MSG),
	      "handler");
}

static void open_for_all_calls(void)
{
	ucp_context_attr_t attr = { .field_mask = UCP_ATTR_FIELD_REQUEST_SIZE };

	open_ends(UCP_FEATURE_TAG | UCP_FEATURE_STREAM | UCP_FEATURE_AM | UCP_FEATURE_RMA |
		  UCP_FEATURE_AMO64);
	check(ucp_context_query(context, &attr), "query");
	request_size = (attr.request_size + 63) / 64 * 64;
	for (int i = 0; i < 2; i++)
		handle_messages(ends[i].worker);
}

/* One message. Return: what the program finds where it should be. */
static char *message(const struct call *c, char *source, char *target, int byte)
{
	char *from = c->torn == TARGET ? peer : source, *to = c->torn == SOURCE ? peer : target;

	memset(from, byte, LEN);
	memset(to, 0, LEN);
	memset(counter, byte, sizeof(*counter));
	c->run(from, to);
	return to;
}

static void run(const struct call *c, int nr, struct torn *from, struct torn *to)
{
	struct torn_tally tally = {};
	unsigned int seed = 1;

	printf("call %s\n", c->name);
	for (int i = 0; i < nr; i++) {
		enum torn_change change = torn_next(&seed);
		char *source = torn_tear(from, change), *target = torn_tear(to, change);

		if (source && target)
			torn_judge(&tally, change, message(c, source, target, 1 + i % 255),
				   c->torn == RESULT ? sizeof(*counter) : LEN, 1 + i % 255);
	}
	torn_print(&tally);
}

int main(int argc, char **argv)
{
	int nr = argc > 1 ? atoi(argv[1]) : 100;
	struct torn *from = torn_open(LEN), *to = torn_open(LEN);

	open_for_all_calls();
	peer = aligned_alloc(LEN, 2 * LEN);
	counter = (uint64_t *)(peer + LEN);
	peer_key = map(peer, 2 * LEN, &peer_handle);
	/* calls that wait make progress on their own side alone: connect before */
	put(peer, NULL);
	for (size_t i = 0; i < NR_CALLS; i++)
		run(&calls[i], nr, from, to);
	return 0;
}
