// SPDX-License-Identifier: MIT
/*
 * An ordinary program of UCX: two workers of one process, and messages from memory and into memory
 * that changes in between. It knows nothing of invlock.
 *
 * usage: ucx_program MESSAGES
 */
#include <stdlib.h>
#include <string.h>

#include "torn.h"
#include "ucx_ends.h"

#define LEN	65536

int main(int argc, char **argv)
{
	int nr = argc > 1 ? atoi(argv[1]) : 100;
	struct torn *from = torn_open(LEN), *to = torn_open(LEN);
	const ucp_request_param_t param = {};
	struct torn_tally tally = {};
	unsigned int seed = 1;

	open_ends(UCP_FEATURE_TAG);
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
		finish_request(send, "send");
		finish_request(receive, "receive");
		torn_judge(&tally, change, target, LEN, 1 + i % 255);
	}
	torn_print(&tally);
	return 0;
}
