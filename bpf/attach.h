/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Where the programs see system calls: either at the two tracepoints that every call of every
 * process passes, or at the functions that implement the calls, where all other calls cost nothing.
 *
 * The kernel skips a program while another task, which was preempted inside that program, is on the
 * same CPU. Where this can happen, the guard (guard.h) is loaded. If anything else is about to make
 * a program at a function miss a call, every feed is closed first: see tracing_changes below.
 *
 * When a program of another owner is attached to such a function or detached from it, the kernel
 * skips our exit program for the calls that run at that moment. These calls stay marked as running
 * until the next call of their thread, or its exit.
 */
#ifndef INVLOCK_BPF_ATTACH_H
#define INVLOCK_BPF_ATTACH_H

#include "guard.h"

/* ---- at the tracepoints: most calls are irrelevant, and for these no register is saved ---- */

static __noinline int call_enters_slow(struct pt_regs *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bpf_user *u = user_of(mm_of(task));

	if (!u)
		return 0;
	call_starts_at_tracepoint(u, task, regs, class_of(number_in(regs), task), is_compat(task));
	see_again(u);
	return 0;
}

SEC("?tp_btf/sys_enter")
int BPF_PROG(call_enters, struct pt_regs *regs, long nr)
{
	return unlikely(call_classes[nr & NR_MASK]) ? call_enters_slow(regs) : 0;
}

static __noinline int call_exits_slow(struct pt_regs *regs, u64 ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bpf_user *u = user_of(mm_of(task));

	if (!u)
		return 0;
	call_ends(u, task, regs, class_of(number_in(regs), task), is_compat(task), ret);
	see_again(u);
	return 0;
}

SEC("?tp_btf/sys_exit")
int BPF_PROG(call_exits, struct pt_regs *regs, long ret)
{
	return unlikely(call_classes[number_in(regs) & NR_MASK]) ? call_exits_slow(regs, ret) : 0;
}

/* ---- at the functions that implement the calls ---- */

/*
 * Writing 0 to kernel.ftrace_enabled takes all programs off their functions, so this program closes
 * the set before that happens. It is defined before the programs at the calls, and so is attached
 * before them: no such write goes unseen once they are attached.
 */
SEC("?fentry/proc_dointvec")
int BPF_PROG(tracing_changes, const struct ctl_table *table, int write)
{
	char name[16] = {};

	if (!write)
		return 0;
	bpf_probe_read_kernel_str(name, sizeof(name), table->procname);
	if (bpf_strncmp(name, sizeof(name), "ftrace_enabled"))
		return 0;
	return close_set(BPF_CLOSED_TRACING);
}

/*
 * As at the tracepoints, regs holds the arguments of the call. The function itself determines which
 * call it is.
 */
#define CALL(function, class, compat)						\
SEC("?fentry/" #function)							\
int BPF_PROG(enters_##function, struct pt_regs *regs)				\
{										\
	struct task_struct *task = bpf_get_current_task_btf();			\
	struct bpf_user *u = user_of(mm_of(task));				\
										\
	if (!u)									\
		return 0;							\
	call_starts(u, task, regs, class, compat);				\
	see_again(u);								\
	return 0;								\
}										\
SEC("?fexit/" #function)							\
int BPF_PROG(exits_##function, struct pt_regs *regs, long ret)			\
{										\
	struct task_struct *task = bpf_get_current_task_btf();			\
	struct bpf_user *u = user_of(mm_of(task));				\
										\
	if (!u)									\
		return 0;							\
	call_ends(u, task, regs, class, compat, ret);				\
	see_again(u);								\
	return 0;								\
}

#define NATIVE_CALL(function, class)	CALL(function, class, false)
#define COMPAT_CALL(function, class)	CALL(function, class, true)

CALL_FUNCTIONS

#endif /* INVLOCK_BPF_ATTACH_H */
