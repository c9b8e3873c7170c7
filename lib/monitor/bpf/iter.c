// SPDX-License-Identifier: MIT
#include "iter.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <unistd.h>

int iter_open(int prog, union bpf_iter_link_info *info)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = info,
		    .iter_info_len = info ? sizeof(*info) : 0);
	int link = bpf_link_create(prog, 0, BPF_TRACE_ITER, &opts), iter;

	if (link < 0)
		return link;
	iter = bpf_iter_create(link);
	close(link);
	return iter;
}

int iter_run(int iter)
{
	char unused[64];
	ssize_t got;
	int err;

	/* One read walks through all objects. It fails if it was cut short. */
	do {
		got = read(iter, unused, sizeof(unused));
	} while (got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)));
	err = got < 0 ? -errno : 0;
	close(iter);
	return err;
}
