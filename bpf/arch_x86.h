/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * x86-64: its system calls and those of i386 and x32, and where the kernel keeps their arguments.
 *
 * bpf/arch_arm64.h has the same names for arm64. kernel.h includes the one for which the programs
 * are compiled.
 */
#ifndef INVLOCK_BPF_ARCH_X86_H
#define INVLOCK_BPF_ARCH_X86_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

#pragma clang attribute pop

#define VM_PAGE_SHIFT		12

/* The kernel ignores the tag of a pointer (LAM) in most of these calls. */
#define ADDRESS_MASK		((1ULL << 57) - 1)

/* The guard needs to see whether a call is over: see has_no_result(). */
#define GUARD_IS_POSSIBLE	1

/* ---- which call is it? ---- */

#define X32_BIT			(1ULL << 30)
#define TS_COMPAT		0x0002

/*
 * Native are the numbers of x86-64, and of x32, which have bit 30 set; compat are those of i386.
 * CALL_FUNCTIONS lists the functions of all these calls.
 */
static const u8 call_classes[NR_MASK + 1] = {
	[9]	= NATIVE(CALL_MMAP),
	[10]	= NATIVE(CALL_MPROTECT),
	[11]	= NATIVE(CALL_MUNMAP),
	[12]	= NATIVE(CALL_BRK),
	[25]	= NATIVE(CALL_MREMAP),
	[28]	= NATIVE(CALL_MADVISE),
	[30]	= NATIVE(CALL_SHMAT),
	[45]	= COMPAT(CALL_BRK),
	[67]	= NATIVE(CALL_SHMDT),
	[90]	= COMPAT(CALL_OLD_MMAP),
	[91]	= COMPAT(CALL_MUNMAP),
	[117]	= COMPAT(CALL_IPC),
	[125]	= COMPAT(CALL_MPROTECT),
	[157]	= NATIVE(CALL_PRCTL),
	[163]	= COMPAT(CALL_MREMAP),
	[172]	= COMPAT(CALL_PRCTL),
	[192]	= COMPAT(CALL_MMAP),
	[206]	= NATIVE(CALL_IO_SETUP),
	[207]	= NATIVE(CALL_IO_DESTROY),
	[216]	= NATIVE(CALL_REMAP_FILE_PAGES),
	[219]	= COMPAT(CALL_MADVISE),
	[245]	= COMPAT(CALL_IO_SETUP),
	[246]	= COMPAT(CALL_IO_DESTROY),
	[257]	= COMPAT(CALL_REMAP_FILE_PAGES),
	[329]	= NATIVE(CALL_MPROTECT),
	[380]	= COMPAT(CALL_MPROTECT),
	[397]	= COMPAT(CALL_SHMAT),
	[398]	= COMPAT(CALL_SHMDT),
	[440]	= NATIVE(CALL_PROCESS_MADVISE) | COMPAT(CALL_PROCESS_MADVISE),
};

/* Return: the number of the call that the registers of an enter or an exit belong to. */
static inline u64 number_in(const struct pt_regs *regs)
{
	return regs->orig_ax;
}

/* The same for the registers of any task, which the verifier does not know. */
static inline u64 saved_number(const struct pt_regs *regs)
{
	return BPF_CORE_READ(regs, orig_ax);
}

/* May this be the number of a call that we know? False: an interrupt or a fault from user mode. */
static inline bool is_call(u64 nr)
{
	return !(nr & ~(u64)(NR_MASK | X32_BIT));
}

/* Was the current call made through the i386 entry? */
static inline bool is_compat(struct task_struct *task)
{
	return task->thread_info.status & TS_COMPAT;
}

/* ---- its arguments and its result ---- */

/* @after: the call is over; it makes no difference here */
static inline void read_arguments(u64 arg[6], const struct pt_regs *regs, bool compat, bool after)
{
	if (compat) {
		arg[0] = (u32)regs->bx;
		arg[1] = (u32)regs->cx;
		arg[2] = (u32)regs->dx;
		arg[3] = (u32)regs->si;
		arg[4] = (u32)regs->di;
		arg[5] = (u32)regs->bp;
	} else {
		arg[0] = regs->di;
		arg[1] = regs->si;
		arg[2] = regs->dx;
		arg[3] = regs->r10;
		arg[4] = regs->r8;
		arg[5] = regs->r9;
	}
}

/* Return: argument 1, 2 or 3 of the call that a task is in. */
static inline u64 saved_argument(const struct pt_regs *regs, u32 nr, bool compat)
{
	switch (nr) {
	case 1:
		return compat ? (u32)BPF_CORE_READ(regs, cx) : BPF_CORE_READ(regs, si);
	case 2:
		return BPF_CORE_READ(regs, dx);
	default:
		return compat ? (u32)BPF_CORE_READ(regs, si) : BPF_CORE_READ(regs, r10);
	}
}

/* The kernel keeps -ENOSYS as the result of a call until the call's function has returned. */
static inline bool has_no_result(const struct pt_regs *regs)
{
	return BPF_CORE_READ(regs, ax) == -38UL;
}

/* Return: the size less 1 of the largest huge page that may begin at this address; 0 = none may. */
static inline u64 huge_mask(u64 addr)
{
	if (!(addr & ((1ULL << 30) - 1)))
		return (1ULL << 30) - 1;
	return addr & ((1ULL << 21) - 1) ? 0 : (1ULL << 21) - 1;
}

/* ---- the functions that implement the calls ---- */

/*
 * All calls in the table above, except mprotect(): it is frequent and concerns only processes that
 * track it, whose programs stay at the tracepoints.
 *
 * First x86-64 and x32: every kernel has all of these functions. Then i386: a kernel has either all
 * of them or none.
 */
#define CALL_FUNCTIONS							\
	NATIVE_CALL(__x64_sys_mmap, CALL_MMAP)				\
	NATIVE_CALL(__x64_sys_munmap, CALL_MUNMAP)			\
	NATIVE_CALL(__x64_sys_brk, CALL_BRK)				\
	NATIVE_CALL(__x64_sys_mremap, CALL_MREMAP)			\
	NATIVE_CALL(__x64_sys_madvise, CALL_MADVISE)			\
	NATIVE_CALL(__x64_sys_shmat, CALL_SHMAT)			\
	NATIVE_CALL(__x64_sys_shmdt, CALL_SHMDT)			\
	NATIVE_CALL(__x64_sys_io_setup, CALL_IO_SETUP)			\
	NATIVE_CALL(__x64_sys_io_destroy, CALL_IO_DESTROY)		\
	NATIVE_CALL(__x64_sys_prctl, CALL_PRCTL)			\
	NATIVE_CALL(__x64_sys_remap_file_pages, CALL_REMAP_FILE_PAGES)	\
	NATIVE_CALL(__x64_sys_process_madvise, CALL_PROCESS_MADVISE)	\
	COMPAT_CALL(__ia32_sys_brk, CALL_BRK)				\
	COMPAT_CALL(__ia32_compat_sys_ia32_mmap, CALL_OLD_MMAP)		\
	COMPAT_CALL(__ia32_sys_munmap, CALL_MUNMAP)			\
	COMPAT_CALL(__ia32_compat_sys_ipc, CALL_IPC)			\
	COMPAT_CALL(__ia32_sys_mremap, CALL_MREMAP)			\
	COMPAT_CALL(__ia32_sys_mmap_pgoff, CALL_MMAP)			\
	COMPAT_CALL(__ia32_sys_madvise, CALL_MADVISE)			\
	COMPAT_CALL(__ia32_compat_sys_io_setup, CALL_IO_SETUP)		\
	COMPAT_CALL(__ia32_sys_io_destroy, CALL_IO_DESTROY)		\
	COMPAT_CALL(__ia32_sys_prctl, CALL_PRCTL)			\
	COMPAT_CALL(__ia32_sys_remap_file_pages, CALL_REMAP_FILE_PAGES)	\
	COMPAT_CALL(__ia32_compat_sys_shmat, CALL_SHMAT)		\
	COMPAT_CALL(__ia32_sys_shmdt, CALL_SHMDT)			\
	COMPAT_CALL(__ia32_sys_process_madvise, CALL_PROCESS_MADVISE)

#endif /* INVLOCK_BPF_ARCH_X86_H */
