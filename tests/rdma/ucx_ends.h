/* SPDX-License-Identifier: MIT */
/* Two workers of one process that UCX connects with each other. Any error ends the program. */
#ifndef INVLOCK_TESTS_RDMA_UCX_ENDS_H
#define INVLOCK_TESTS_RDMA_UCX_ENDS_H

#include <stdio.h>
#include <stdlib.h>
#include <ucp/api/ucp.h>

static struct {
	ucp_worker_h worker;
	ucp_ep_h ep;
	ucp_address_t *address;
	size_t address_len;
} ends[2];

static ucp_context_h context;

static inline void check(ucs_status_t status, const char *what)
{
	if (status == UCS_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, ucs_status_string(status));
	exit(3);
}

static inline void progress(void)
{
	ucp_worker_progress(ends[0].worker);
	ucp_worker_progress(ends[1].worker);
}

/* Waits until the request is done, and frees it. @what: what an error message calls it */
static inline void finish_request(void *request, const char *what)
{
	ucs_status_t status;

	if (!request)
		return;
	if (UCS_PTR_IS_ERR(request))
		check(UCS_PTR_STATUS(request), what);
	while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS)
		progress();
	check(status, what);
	ucp_request_free(request);
}

static inline void open_worker(int i)
{
	ucp_worker_params_t params = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		.thread_mode = UCS_THREAD_MODE_SINGLE,
	};

	check(ucp_worker_create(context, &params, &ends[i].worker), "worker");
	check(ucp_worker_get_address(ends[i].worker, &ends[i].address, &ends[i].address_len),
	      "address");
}

/* @features: UCP_FEATURE_* */
static inline void open_ends(uint64_t features)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES, .features = features,
	};
	ucp_config_t *config;

	check(ucp_config_read(NULL, NULL, &config), "config");
	check(ucp_init(&params, config, &context), "init");
	for (int i = 0; i < 2; i++)
		open_worker(i);
	for (int i = 0; i < 2; i++) {
		ucp_ep_params_t ep = {
			.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS,
			.address = ends[!i].address,
		};

		check(ucp_ep_create(ends[i].worker, &ep, &ends[i].ep), "endpoint");
	}
}

#endif /* INVLOCK_TESTS_RDMA_UCX_ENDS_H */
