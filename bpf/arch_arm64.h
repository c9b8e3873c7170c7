/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * arm64: its system calls and those of 32-bit programs, and where the kernel keeps their arguments.
 *
 * bpf/arch_x86.h has the same names for x86-64. kernel.h includes the one for which the programs
 * are compiled.
 */
#ifndef INVLOCK_BPF_ARCH_ARM64_H
#define INVLOCK_BPF_ARCH_ARM64_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct pt_regs {
	u64 regs[31];
	u64 orig_x0;
	int syscallno;
};

#pragma clang attribute pop

/* 4, 16 or 64 KiB, as the kernel was built. The mask shows the verifier that the shift is small. */
#define VM_PAGE_SHIFT		(page_shift & 31)

/* The kernel ignores the tag of a pointer, its top byte, in these calls. */
#define ADDRESS_MASK		((1ULL << 56) - 1)

/*
 * Nothing in the registers of a task tells whether the function of its call has returned: argument
 * 0 and the result share a register, and may be the same number. So the guard cannot be here.
 */
#define GUARD_IS_POSSIBLE	0

static inline bool has_no_result(const struct pt_regs *regs)
{
	return true;
}

/* ---- which call is it? ---- */

#define TIF_32BIT		22

/*
 * Native are the numbers of arm64; compat are those of arm, which 32-bit programs use.
 * CALL_FUNCTIONS lists the functions of all these calls.
 */
static const u8 call_classes[NR_MASK + 1] = {
	[0]	= NATIVE(CALL_IO_SETUP),
	[1]	= NATIVE(CALL_IO_DESTROY),
	[45]	= COMPAT(CALL_BRK),
	[91]	= COMPAT(CALL_MUNMAP),
	[125]	= COMPAT(CALL_MPROTECT),
	[163]	= COMPAT(CALL_MREMAP),
	[167]	= NATIVE(CALL_PRCTL),
	[172]	= COMPAT(CALL_PRCTL),
	[192]	= COMPAT(CALL_MMAP),
	[196]	= NATIVE(CALL_SHMAT),
	[197]	= NATIVE(CALL_SHMDT),
	[214]	= NATIVE(CALL_BRK),
	[215]	= NATIVE(CALL_MUNMAP),
	[216]	= NATIVE(CALL_MREMAP),
	[220]	= COMPAT(CALL_MADVISE),
	[222]	= NATIVE(CALL_MMAP),
	[226]	= NATIVE(CALL_MPROTECT),
	[233]	= NATIVE(CALL_MADVISE),
	[234]	= NATIVE(CALL_REMAP_FILE_PAGES),
	[243]	= COMPAT(CALL_IO_SETUP),
	[244]	= COMPAT(CALL_IO_DESTROY),
	[253]	= COMPAT(CALL_REMAP_FILE_PAGES),
	[288]	= NATIVE(CALL_MPROTECT),
	[305]	= COMPAT(CALL_SHMAT),
	[306]	= COMPAT(CALL_SHMDT),
	[394]	= COMPAT(CALL_MPROTECT),
	[440]	= NATIVE(CALL_PROCESS_MADVISE) | COMPAT(CALL_PROCESS_MADVISE),
};

/* Return: the number of the call that the registers of an enter or an exit belong to. */
static inline u64 number_in(const struct pt_regs *regs)
{
	return (u32)regs->syscallno;
}

/* The same for the registers of any task, which the verifier does not know. */
static inline u64 saved_number(const struct pt_regs *regs)
{
	return (u32)BPF_CORE_READ(regs, syscallno);
}

/* May this be the number of a call that we know? False: an interrupt or a fault from user mode. */
static inline bool is_call(u64 nr)
{
	return nr <= NR_MASK;
}

/* Does the task run a 32-bit program? */
static inline bool is_compat(struct task_struct *task)
{
	return task->thread_info.flags >> TIF_32BIT & 1;
}

/* ---- its arguments ---- */

/*
 * @after: the call may be over, so that argument 0 has been replaced by the result. Before, a
 * tracer may have changed argument 0, but not its copy.
 */
static inline void read_arguments(u64 arg[6], const struct pt_regs *regs, bool compat, bool after)
{
	arg[0] = after ? regs->orig_x0 : regs->regs[0];
	arg[1] = regs->regs[1];
	arg[2] = regs->regs[2];
	arg[3] = regs->regs[3];
	arg[4] = regs->regs[4];
	arg[5] = regs->regs[5];
	if (!compat)
		return;
	for (u32 i = 0; i < 6; i++)
		arg[i] = (u32)arg[i];
}

/* Return: argument 1, 2 or 3 of the call that a task is in. */
static inline u64 saved_argument(const struct pt_regs *regs, u32 nr, bool compat)
{
	u64 arg;

	switch (nr) {
	case 1:
		arg = BPF_CORE_READ(regs, regs[1]);
		break;
	case 2:
		arg = BPF_CORE_READ(regs, regs[2]);
		break;
	default:
		arg = BPF_CORE_READ(regs, regs[3]);
	}
	return compat ? (u32)arg : arg;
}

/* All ones below bit @shift if @addr has none of these bits, else 0: a branch less to verify. */
#define MASK_IF_ALIGNED(addr, shift)						\
	(-((((addr) & ((1ULL << (shift)) - 1)) - 1) >> 63) & ((1ULL << (shift)) - 1))

/*
 * Return: the size less 1 of the largest huge page that may begin at this address; 0 = none may.
 * With pages of 4 KiB: 64 KiB, 2 MiB, 32 MiB, 1 GiB; of 16 KiB: 2 MiB, 32 MiB, 1 GiB; of 64 KiB:
 * 2 MiB, 512 MiB, 16 GiB.
 */
static inline u64 huge_mask(u64 addr)
{
	return MASK_IF_ALIGNED(addr, 34) | MASK_IF_ALIGNED(addr, 30) | MASK_IF_ALIGNED(addr, 29) |
	       MASK_IF_ALIGNED(addr, 25) | MASK_IF_ALIGNED(addr, 21) | MASK_IF_ALIGNED(addr, 16);
}

/* ---- the functions that implement the calls ---- */

/*
 * All calls in the table above, except mprotect(): it is frequent and concerns only processes that
 * track it, whose programs stay at the tracepoints.
 *
 * First those of arm64, which every kernel has. 32-bit programs call most of them, too, and the
 * upper halves of their registers are 0. The functions for 32-bit programs alone come last: a
 * kernel has either all of them or none.
 */
#define CALL_FUNCTIONS								\
	NATIVE_CALL(__arm64_sys_mmap, CALL_MMAP)				\
	NATIVE_CALL(__arm64_sys_munmap, CALL_MUNMAP)				\
	NATIVE_CALL(__arm64_sys_brk, CALL_BRK)					\
	NATIVE_CALL(__arm64_sys_mremap, CALL_MREMAP)				\
	NATIVE_CALL(__arm64_sys_madvise, CALL_MADVISE)				\
	NATIVE_CALL(__arm64_sys_shmat, CALL_SHMAT)				\
	NATIVE_CALL(__arm64_sys_shmdt, CALL_SHMDT)				\
	NATIVE_CALL(__arm64_sys_io_setup, CALL_IO_SETUP)			\
	NATIVE_CALL(__arm64_sys_io_destroy, CALL_IO_DESTROY)			\
	NATIVE_CALL(__arm64_sys_prctl, CALL_PRCTL)				\
	NATIVE_CALL(__arm64_sys_remap_file_pages, CALL_REMAP_FILE_PAGES)	\
	NATIVE_CALL(__arm64_sys_process_madvise, CALL_PROCESS_MADVISE)		\
	COMPAT_CALL(__arm64_compat_sys_aarch32_mmap2, CALL_MMAP)		\
	COMPAT_CALL(__arm64_compat_sys_shmat, CALL_SHMAT)			\
	COMPAT_CALL(__arm64_compat_sys_io_setup, CALL_IO_SETUP)

#endif /* INVLOCK_BPF_ARCH_ARM64_H */
