// SPDX-License-Identifier: MIT
/*
 * An ordinary program of UCX: two workers of one process, and messages from memory and into memory
 * that changes in between. It knows nothing of invlock.
 *
 * usage: ucx_program MESSAGES
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucp/api/ucp.h>

#include "torn.h"

#define LEN	65536

static struct {
	ucp_worker_h worker;
	ucp_ep_h ep;
	ucp_address_t *address;
	size_t address_len;
} ends[2];

static void check(ucs_status_t status, const char *what)
{
	if (status == UCS_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, ucs_status_string(status));
	exit(3);
}

static void open_ends(void)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_TAG,
	};
	ucp_worker_params_t worker = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		.thread_mode = UCS_THREAD_MODE_SINGLE,
	};
	ucp_context_h context;
	ucp_config_t *config;

	check(ucp_config_read(NULL, NULL, &config), "config");
	check(ucp_init(&params, config, &context), "init");
	for (int i = 0; i < 2; i++) {
		check(ucp_worker_create(context, &worker, &ends[i].worker), "worker");
		check(ucp_worker_get_address(ends[i].worker, &ends[i].address,
					     &ends[i].address_len), "address");
	}
	for (int i = 0; i < 2; i++) {
		ucp_ep_params_t ep = {
			.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS,
			.address = ends[!i].address,
		};

		check(ucp_ep_create(ends[i].worker, &ep, &ends[i].ep), "endpoint");
	}
}

static void finish(void *request, const char *what)
{
	ucs_status_t status;

	if (!request)
		return;
	if (UCS_PTR_IS_ERR(request))
		check(UCS_PTR_STATUS(request), what);
	while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS) {
		ucp_worker_progress(ends[0].worker);
		ucp_worker_progress(ends[1].worker);
	}
	check(status, what);
	ucp_request_free(request);
}

int main(int argc, char **argv)
{
	int nr = argc > 1 ? atoi(argv[1]) : 100;
	struct torn *from = torn_open(LEN), *to = torn_open(LEN);
	const ucp_request_param_t param = {};
	struct torn_tally tally = {};
	unsigned int seed = 1;

	open_ends();
	for (int i = 0; i < nr; i++) {
		enum torn_change change = torn_next(&seed);
		char *source = torn_tear(from, change), *target = torn_tear(to, change);
		void *receive, *send;

		if (!source || !target)
			continue;
		memset(source, 1 + i % 255, LEN);
		memset(target, 0, LEN);
		receive = ucp_tag_recv_nbx(ends[1].worker, target, LEN, 5, -1, &param);
		send = ucp_tag_send_nbx(ends[0].ep, source, LEN, 5, &param);
		finish(send, "send");
		finish(receive, "receive");
		torn_judge(&tally, change, target, LEN, 1 + i % 255);
	}
	torn_print(&tally);
	return 0;
}
