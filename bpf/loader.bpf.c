// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Who loaded a set of programs? Whoever loads a set keeps power over its maps, so a process joins a
 * set only if the process that loaded it had CAP_SYS_ADMIN, as the joining process has. The kernel
 * does not keep that of a program. But a link to a perf event keeps the file of the event, and this
 * file keeps the credentials of the task that opened it, which nobody can forge. Each set has such
 * a link, with the program loaded_by. This program lists the links that tell of such a task.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "kernel.h"
#include "shared.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC("iter/bpf_link")
int find_loaders(struct bpf_iter__bpf_link *ctx)
{
	struct bpf_perf_link *link = (void *)ctx->link;
	u32 id;

	if (!link || BPF_CORE_READ(link, link.type) != BPF_LINK_TYPE_PERF_EVENT)
		return 0;
	if (!(caps_of(BPF_CORE_READ(link, perf_file, f_cred)) & 1ULL << CAP_SYS_ADMIN))
		return 0;
	id = BPF_CORE_READ(link, link.prog, aux, id);
	bpf_seq_write(ctx->meta->seq, &id, sizeof(id));
	return 0;
}
