// SPDX-License-Identifier: MIT
/* malloc and mmap are counted, and malloc can be told to fail. See inject.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inject.h"
#include "lib/page.h"

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t nr, size_t size);
extern void *__libc_realloc(void *mem, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *mem);

/* atomics */
static unsigned int nr_allocations;
static bool window, failed;
static long blocks, mapped;
/* set before there are threads */
static unsigned int fail_at;
static bool fail_later;

void allocations_fail(unsigned int nth, bool and_all_later)
{
	fail_at = nth;
	fail_later = and_all_later;
}

void allocations_window(bool open)
{
	__atomic_store_n(&window, open, __ATOMIC_SEQ_CST);
}

unsigned int allocations_made(bool *ret_failed)
{
	*ret_failed = __atomic_load_n(&failed, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&nr_allocations, __ATOMIC_SEQ_CST);
}

void allocations_held(struct holdings *ret)
{
	ret->blocks = __atomic_load_n(&blocks, __ATOMIC_SEQ_CST);
	ret->mapped = __atomic_load_n(&mapped, __ATOMIC_SEQ_CST);
}

static bool fails(void)
{
	unsigned int nr;

	if (!__atomic_load_n(&window, __ATOMIC_SEQ_CST))
		return false;
	nr = __atomic_add_fetch(&nr_allocations, 1, __ATOMIC_SEQ_CST);
	if (!fail_at || nr < fail_at || (nr > fail_at && !fail_later))
		return false;
	__atomic_store_n(&failed, true, __ATOMIC_SEQ_CST);
	errno = ENOMEM;
	return true;
}

static void *count(void *mem)
{
	if (mem)
		__atomic_add_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
	return mem;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	return fails() ? NULL : count(__libc_malloc(size));
}

__attribute__((visibility("default"))) void *calloc(size_t nr, size_t size)
{
	return fails() ? NULL : count(__libc_calloc(nr, size));
}

__attribute__((visibility("default"))) void *realloc(void *mem, size_t size)
{
	if (fails())
		return NULL;
	return mem ? __libc_realloc(mem, size) : count(__libc_realloc(NULL, size));
}

__attribute__((visibility("default"))) void *aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : count(__libc_memalign(align, size));
}

__attribute__((visibility("default"))) int posix_memalign(void **ret, size_t align, size_t size)
{
	void *mem = fails() ? NULL : count(__libc_memalign(align, size));

	if (mem)
		*ret = mem;
	return mem ? 0 : ENOMEM;
}

__attribute__((visibility("default"))) void free(void *mem)
{
	if (mem)
		__atomic_sub_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
	__libc_free(mem);
}

/* Mappings that libc makes for itself do not come here. */

/* libc has this function under two names, and its headers choose one of them: replace both. */
void *counted_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t at) __asm__("mmap");
void *counted_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t at)
	__asm__("mmap64");

__attribute__((visibility("default")))
void *counted_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t at)
{
	void *mem = (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, at);

	/* A MAP_FIXED mapping replaces memory that is counted already. */
	if (mem != MAP_FAILED && !(flags & MAP_FIXED))
		__atomic_add_fetch(&mapped, page_up(len), __ATOMIC_SEQ_CST);
	return mem;
}

__attribute__((visibility("default")))
void *counted_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t at)
{
	return counted_mmap(addr, len, prot, flags, fd, at);
}

__attribute__((visibility("default"))) int munmap(void *addr, size_t len)
{
	int err = (int)syscall(SYS_munmap, addr, len);

	if (!err)
		__atomic_sub_fetch(&mapped, page_up(len), __ATOMIC_SEQ_CST);
	return err;
}
