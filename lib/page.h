/* SPDX-License-Identifier: MIT */
/* The size of a page, which the machine says: 4, 16 or 64 KiB. scripts/lint.py refuses numbers. */
#ifndef INVLOCK_LIB_PAGE_H
#define INVLOCK_LIB_PAGE_H

#include <unistd.h>

/* Context: any; no system call. */
static inline unsigned long page_bytes(void)
{
	return (unsigned long)sysconf(_SC_PAGESIZE);
}

/* the start of the page of @addr */
static inline unsigned long page_down(unsigned long addr)
{
	return addr & -page_bytes();
}

/* @n, rounded up to whole pages */
static inline unsigned long page_up(unsigned long n)
{
	return page_down(n + page_bytes() - 1);
}

#endif /* INVLOCK_LIB_PAGE_H */
