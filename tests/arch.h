/* SPDX-License-Identifier: MIT */
/*
 * What the tests must know of the architecture; no other file of the tests asks which it is.
 */
#ifndef INVLOCK_TESTS_ARCH_H
#define INVLOCK_TESTS_ARCH_H

#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>

#if defined(__x86_64__)

#define CAN_CHANGE_CALLS	1

/*
 * For a tracer, at the enter of a system call of a stopped thread: make it another call, or give it
 * another first argument; at its exit: give it another result. Return: 0, or -1 with errno
 */
static inline long change_call(pid_t tid, long nr)
{
	return ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, orig_rax), nr);
}

static inline long change_argument(pid_t tid, unsigned long arg)
{
	return ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, rdi), arg);
}

static inline long change_result(pid_t tid, long result)
{
	return ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, rax), result);
}

/* Begins a program at its first instruction, with this stack. */
static inline __attribute__((noreturn)) void begin_program(const void *entry, const void *stack)
{
	/* rdx is 0: there is nothing to call at exit */
	__asm__ volatile("mov %0, %%rsp\n\txor %%edx, %%edx\n\txor %%ebp, %%ebp\n\tjmp *%1"
			 : : "r"(stack), "r"(entry) : "memory", "rdx");
	__builtin_unreachable();
}

#elif defined(__aarch64__)

#define CAN_CHANGE_CALLS	1

static inline long change_call(pid_t tid, long nr)
{
	int call = (int)nr;
	struct iovec part = { &call, sizeof(call) };

	return ptrace(PTRACE_SETREGSET, tid, (void *)NT_ARM_SYSTEM_CALL, &part);
}

/* the first argument and the result are in the same register */
static inline long change_result(pid_t tid, long result)
{
	struct user_regs_struct regs;
	struct iovec all = { &regs, sizeof(regs) };

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &all))
		return -1;
	regs.regs[0] = result;
	return ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &all);
}

static inline long change_argument(pid_t tid, unsigned long arg)
{
	return change_result(tid, (long)arg);
}

static inline __attribute__((noreturn)) void begin_program(const void *entry, const void *stack)
{
	__asm__ volatile("mov sp, %0\n\tmov x0, xzr\n\tbr %1"
			 : : "r"(stack), "r"(entry) : "memory", "x0");
	__builtin_unreachable();
}

#else

#define CAN_CHANGE_CALLS	0

static inline long cannot_change(void)
{
	errno = ENOSYS;
	return -1;
}

#define change_call(tid, nr)		((void)(tid), (void)(nr), cannot_change())
#define change_argument(tid, arg)	((void)(tid), (void)(arg), cannot_change())
#define change_result(tid, result)	((void)(tid), (void)(result), cannot_change())
#define begin_program(entry, stack)	((void)(entry), (void)(stack), abort())

#endif

#endif /* INVLOCK_TESTS_ARCH_H */
