// SPDX-License-Identifier: MIT
/* Counts what the probes tell, and keeps the arguments of the last time. */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/usdt.bpf.h>
#include "trace.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NR_PROBES);
	__type(key, __u32);
	__type(value, struct trace);
} traces SEC(".maps");

static inline int note(struct pt_regs *ctx, __u32 probe)
{
	struct trace *t = bpf_map_lookup_elem(&traces, &probe);

	if (!t)
		return 0;
	t->nr++;
	t->nr_args = bpf_usdt_arg_cnt(ctx);
	for (int i = 0; i < NR_ARGS; i++)
		bpf_usdt_arg(ctx, i, &t->arg[i]);
	return 0;
}

#define TRACE(name, number)						\
SEC("usdt")								\
int name(struct pt_regs *ctx)						\
{									\
	return note(ctx, number);					\
}

TRACE(miss, PROBE_MISS)
TRACE(refused, PROBE_REFUSED)
TRACE(stale, PROBE_STALE)
TRACE(evict, PROBE_EVICT)
TRACE(reg, PROBE_REG)
TRACE(dereg, PROBE_DEREG)
