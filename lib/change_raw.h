/* SPDX-License-Identifier: MIT */
/* System calls without libc, and without errno. */
#ifndef INVLOCK_LIB_CHANGE_RAW_H
#define INVLOCK_LIB_CHANGE_RAW_H

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

/*
 * Return: 0 or -errno. A child that shares our memory, errno included, may call it.
 * -ENOSYS on an architecture whose instructions we have not written.
 */
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

#endif /* INVLOCK_LIB_CHANGE_RAW_H */
