/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * System calls without libc, errno, stack or anything else that a child would share with us. They
 * are not for core, but for the self-test and for `invlock doctor`.
 */
#ifndef INVLOCK_CORE_PORT_RAW_H
#define INVLOCK_CORE_PORT_RAW_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>

/* Return: 0 or -errno; -ENOSYS on an architecture whose instructions we have not written */
static inline long raw_munmap(void *addr, size_t len)
{
#if defined(__x86_64__) && !defined(__ILP32__)
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"((long)SYS_munmap), "D"(addr), "S"(len)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_munmap;
	register long x0 __asm__("x0") = (long)addr;
	register long x1 __asm__("x1") = (long)len;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
	return x0;
#else
	(void)addr;
	(void)len;
	return -ENOSYS;
#endif
}

/* what a child is told, and what it answers; the instructions below know the offsets */
struct raw_order {
	void *addr;	/* 0 */
	size_t len;	/* 8 */
	long err;	/* 16 */
};

/*
 * A child that shares our memory unmaps a range and exits: clone(flags), munmap, exit.
 * Return: its pid or -errno. order->err is set once it has exited.
 */
static inline long raw_clone_munmap(long flags, void *stack, struct raw_order *order)
{
#if defined(__x86_64__) && !defined(__ILP32__)
	long ret;

	__asm__ volatile("syscall\n\t"
			 "test	%%rax, %%rax\n\t"
			 "jnz	1f\n\t"
			 "mov	0(%[order]), %%rdi\n\t"
			 "mov	8(%[order]), %%rsi\n\t"
			 "mov	%[munmap], %%eax\n\t"
			 "syscall\n\t"
			 "mov	%%rax, 16(%[order])\n\t"
			 "xor	%%edi, %%edi\n\t"
			 "mov	%[exit], %%eax\n\t"
			 "syscall\n"
			 "1:"
			 : "=a"(ret)
			 : "0"((long)SYS_clone), "D"(flags), "S"(stack), [order] "r"(order),
			   [munmap] "i"(SYS_munmap), [exit] "i"(SYS_exit)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_clone;
	register long x0 __asm__("x0") = flags;
	register long x1 __asm__("x1") = (long)stack;

	__asm__ volatile("svc	#0\n\t"
			 "cbnz	x0, 1f\n\t"
			 "ldr	x0, [%[order]]\n\t"
			 "ldr	x1, [%[order], #8]\n\t"
			 "mov	x8, %[munmap]\n\t"
			 "svc	#0\n\t"
			 "str	x0, [%[order], #16]\n\t"
			 "mov	x0, #0\n\t"
			 "mov	x8, %[exit]\n\t"
			 "svc	#0\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), [order] "r"(order),
			   [munmap] "i"(SYS_munmap), [exit] "i"(SYS_exit)
			 : "memory");
	return x0;
#else
	(void)flags;
	(void)stack;
	(void)order;
	return -ENOSYS;
#endif
}

/*
 * int 0x80 is for 32-bit programs, but works in 64-bit ones, too. Its addresses have 32 bits.
 * Only x86-64 has it: elsewhere it is -ENOSYS.
 */
#define I386_GETPID	20
#define I386_MUNMAP	91
#ifdef __x86_64__
#define RAW_HAS_I386	true
#define RAW_MAP_LOW	MAP_32BIT
#else
#define RAW_HAS_I386	false
#define RAW_MAP_LOW	0
#endif

/* Return: the result; -errno */
static inline int raw_i386(long nr, long a, long b, long c, long d, long e, long f)
{
#ifdef __x86_64__
	int ret;

	/*
	 * rbp has the sixth argument. It is swapped, not pushed: below the stack lie a leaf's data.
	 * With the &, no other argument of the same value shares its register.
	 */
	__asm__ volatile("xchg %[f], %%rbp\n\tint $0x80\n\txchg %[f], %%rbp"
			 : "=a"(ret), [f] "+&r"(f)
			 : "0"((int)nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory", "r8", "r9", "r10", "r11");
	return ret;
#else
	(void)nr, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -ENOSYS;
#endif
}

#endif /* INVLOCK_CORE_PORT_RAW_H */
