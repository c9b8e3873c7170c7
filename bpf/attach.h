/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The calls, seen at the functions that they end in: every other call costs nothing.
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

/*
 * The guards come first in this file, and so are attached first: the kernel is as it was when they
 * were, or the set is blind.
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

/* what the function's caller put into regs says which call it is, as at the tracepoints */
#define CALL(function)							\
SEC("?fentry/" #function)						\
int BPF_PROG(enters_##function, struct pt_regs *regs)			\
{									\
	struct task_struct *task = look_at_call(regs->orig_ax);		\
									\
	return task ? call_starts(task, regs) : 0;			\
}									\
SEC("?fexit/" #function)						\
int BPF_PROG(exits_##function, struct pt_regs *regs, long ret)		\
{									\
	struct task_struct *task = look_at_call(regs->orig_ax);		\
									\
	return task ? call_ends(task, regs, ret) : 0;			\
}

/*
 * All that decode.h knows but mprotect(), which is frequent and concerns only those who ask for
 * it: these stay at the tracepoints.
 *
 * x86-64 and x32; every kernel has all of them
 */
CALL(__x64_sys_mmap)
CALL(__x64_sys_munmap)
CALL(__x64_sys_brk)
CALL(__x64_sys_mremap)
CALL(__x64_sys_madvise)
CALL(__x64_sys_shmat)
CALL(__x64_sys_shmdt)
CALL(__x64_sys_io_destroy)
CALL(__x64_sys_remap_file_pages)
CALL(__x64_sys_process_madvise)

/* i386; a kernel has all of them or none */
CALL(__ia32_sys_brk)
CALL(__ia32_compat_sys_ia32_mmap)
CALL(__ia32_sys_munmap)
CALL(__ia32_compat_sys_ipc)
CALL(__ia32_sys_mremap)
CALL(__ia32_sys_mmap_pgoff)
CALL(__ia32_sys_madvise)
CALL(__ia32_sys_io_destroy)
CALL(__ia32_sys_remap_file_pages)
CALL(__ia32_compat_sys_shmat)
CALL(__ia32_sys_shmdt)
CALL(__ia32_sys_process_madvise)

#endif /* INVLOCK_BPF_ATTACH_H */
