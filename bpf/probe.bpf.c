// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Can a task be preempted inside a program at a tracepoint of calls? The library asks this before
 * it loads the set. The kernel must keep a program on its CPU: if it does not disable migration for
 * that, it forbids preemption.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "kernel.h"
#include "shared.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} found SEC(".maps");

SEC("tp_btf/sys_enter")
int BPF_PROG(probe)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 zero = 0, *answer = bpf_map_lookup_elem(&found, &zero);

	if (!answer || !bpf_core_field_exists(task->migration_disabled))
		return 0;
	*answer = task->migration_disabled ? BPF_PROBE_PREEMPTIBLE : BPF_PROBE_NOT_PREEMPTIBLE;
	return 0;
}
