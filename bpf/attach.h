/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Where the calls are seen: at the two tracepoints that every call of everybody passes, or at the
 * functions that they end in, where every other call costs nothing.
 *
 * A program at a function is skipped while another task is inside of it on the same CPU, which
 * takes a kernel that preempts its own code. So the library uses these only where it does not,
 * and the guards below close every feed before that, or anything else that makes a program miss
 * a call, can change. The programs at the tracepoints have neither problem.
 *
 * When somebody else's program comes to a function or goes, the kernel skips what we have at its
 * exit for the calls that run at that moment: these stay marked as running until their thread's
 * next call.
 */
#ifndef INVLOCK_BPF_ATTACH_H
#define INVLOCK_BPF_ATTACH_H

#include "users.h"

/* ---- at the tracepoints: most calls are of no interest, and save no registers ---- */

static __noinline int any_call_starts(struct pt_regs *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bpf_user *u = user_of(mm_of(task));

	return u ? call_starts(u, task, regs, class_of(regs->orig_ax, task), is_compat(task)) : 0;
}

SEC("?tp_btf/sys_enter")
int BPF_PROG(call_enters, struct pt_regs *regs, long nr)
{
	return unlikely(call_classes[nr & NR_MASK]) ? any_call_starts(regs) : 0;
}

static __noinline int any_call_ends(struct pt_regs *regs, u64 ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bpf_user *u = user_of(mm_of(task));

	return u ? call_ends(u, task, regs, class_of(regs->orig_ax, task), is_compat(task), ret) :
		   0;
}

SEC("?tp_btf/sys_exit")
int BPF_PROG(call_exits, struct pt_regs *regs, long ret)
{
	return unlikely(call_classes[regs->orig_ax & NR_MASK]) ? any_call_ends(regs, ret) : 0;
}

/* ---- at the functions that calls end in ---- */

/*
 * The guards come before these, and so are attached first: the kernel is as it was when they were,
 * or the set is blind.
 */

/* from here on calls may be missed */
static inline int blind_set(void)
{
	struct bpf_set *set = get_set();

	if (!set)
		return 0;
	/* a full barrier: pairs with that of arm() */
	port_fetch_add(&set->blind, 1);
	for (u32 i = 0; i < BPF_NR_USERS; i++) {
		struct bpf_user *u = user_at(i);

		if (u && port_load(&u->state.mm))
			feed_close(u, INVLOCK_FEED_DEGRADED);
	}
	return 0;
}

/* root chooses another preemption model */
SEC("?fentry/sched_dynamic_update")
int BPF_PROG(preemption_changes)
{
	return blind_set();
}

/* a live patch is complete: for a moment, the kernel preempts its own code */
SEC("?fentry/sched_dynamic_klp_disable")
int BPF_PROG(patch_completes)
{
	return blind_set();
}

/* kernel.ftrace_enabled takes all programs off their functions */
SEC("?fentry/proc_dointvec")
int BPF_PROG(sysctl_changes, const struct ctl_table *table, int write)
{
	char name[16] = {};

	if (!write)
		return 0;
	bpf_probe_read_kernel_str(name, sizeof(name), table->procname);
	return bpf_strncmp(name, sizeof(name), "ftrace_enabled") ? 0 : blind_set();
}

/*
 * What a function's caller put into regs are the call's arguments, as at the tracepoints; which
 * call it is, the function itself says.
 */
#define CALL(function, class, compat)						\
SEC("?fentry/" #function)							\
int BPF_PROG(enters_##function, struct pt_regs *regs)				\
{										\
	struct task_struct *task = bpf_get_current_task_btf();			\
	struct bpf_user *u = user_of(mm_of(task));				\
										\
	return u ? call_starts(u, task, regs, class, compat) : 0;		\
}										\
SEC("?fexit/" #function)							\
int BPF_PROG(exits_##function, struct pt_regs *regs, long ret)			\
{										\
	struct task_struct *task = bpf_get_current_task_btf();			\
	struct bpf_user *u = user_of(mm_of(task));				\
										\
	return u ? call_ends(u, task, regs, class, compat, ret) : 0;		\
}

#define NATIVE_CALL(function, class)	CALL(function, class, false)
#define COMPAT_CALL(function, class)	CALL(function, class, true)

/*
 * All that decode.h knows but mprotect(), which is frequent and concerns only those who ask for
 * it: these stay at the tracepoints.
 *
 * x86-64 and x32; every kernel has all of them
 */
NATIVE_CALL(__x64_sys_mmap, CALL_MMAP)
NATIVE_CALL(__x64_sys_munmap, CALL_MUNMAP)
NATIVE_CALL(__x64_sys_brk, CALL_BRK)
NATIVE_CALL(__x64_sys_mremap, CALL_MREMAP)
NATIVE_CALL(__x64_sys_madvise, CALL_MADVISE)
NATIVE_CALL(__x64_sys_shmat, CALL_SHMAT)
NATIVE_CALL(__x64_sys_shmdt, CALL_SHMDT)
NATIVE_CALL(__x64_sys_io_setup, CALL_IO_SETUP)
NATIVE_CALL(__x64_sys_io_destroy, CALL_IO_DESTROY)
NATIVE_CALL(__x64_sys_prctl, CALL_PRCTL)
NATIVE_CALL(__x64_sys_remap_file_pages, CALL_REMAP_FILE_PAGES)
NATIVE_CALL(__x64_sys_process_madvise, CALL_PROCESS_MADVISE)

/* i386; a kernel has all of them or none */
COMPAT_CALL(__ia32_sys_brk, CALL_BRK)
COMPAT_CALL(__ia32_compat_sys_ia32_mmap, CALL_OLD_MMAP)
COMPAT_CALL(__ia32_sys_munmap, CALL_MUNMAP)
COMPAT_CALL(__ia32_compat_sys_ipc, CALL_IPC)
COMPAT_CALL(__ia32_sys_mremap, CALL_MREMAP)
COMPAT_CALL(__ia32_sys_mmap_pgoff, CALL_MMAP)
COMPAT_CALL(__ia32_sys_madvise, CALL_MADVISE)
COMPAT_CALL(__ia32_compat_sys_io_setup, CALL_IO_SETUP)
COMPAT_CALL(__ia32_sys_io_destroy, CALL_IO_DESTROY)
COMPAT_CALL(__ia32_sys_prctl, CALL_PRCTL)
COMPAT_CALL(__ia32_sys_remap_file_pages, CALL_REMAP_FILE_PAGES)
COMPAT_CALL(__ia32_compat_sys_shmat, CALL_SHMAT)
COMPAT_CALL(__ia32_sys_shmdt, CALL_SHMDT)
COMPAT_CALL(__ia32_sys_process_madvise, CALL_PROCESS_MADVISE)

#endif /* INVLOCK_BPF_ATTACH_H */
