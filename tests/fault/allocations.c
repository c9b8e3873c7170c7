// SPDX-License-Identifier: MIT
/* malloc and mmap, counted; malloc can be told to fail. See inject.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inject.h"

/* whose malloc it is underneath: a sanitizer has its own */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REAL(name) __interceptor_##name
#else
#define REAL(name) __libc_##name
#endif

extern void *REAL(malloc)(size_t size);
extern void *REAL(calloc)(size_t nr, size_t size);
extern void *REAL(realloc)(void *mem, size_t size);
extern void *REAL(memalign)(size_t align, size_t size);
extern void REAL(free)(void *mem);

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
	return fails() ? NULL : count(REAL(malloc)(size));
}

__attribute__((visibility("default"))) void *calloc(size_t nr, size_t size)
{
	return fails() ? NULL : count(REAL(calloc)(nr, size));
}

__attribute__((visibility("default"))) void *realloc(void *mem, size_t size)
{
	if (fails())
		return NULL;
	return mem ? REAL(realloc)(mem, size) : count(REAL(realloc)(NULL, size));
}

__attribute__((visibility("default"))) void *aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : count(REAL(memalign)(align, size));
}

__attribute__((visibility("default"))) int posix_memalign(void **ret, size_t align, size_t size)
{
	void *mem = fails() ? NULL : count(REAL(memalign)(align, size));

	if (mem)
		*ret = mem;
	return mem ? 0 : ENOMEM;
}

__attribute__((visibility("default"))) void free(void *mem)
{
	if (mem)
		__atomic_sub_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
	REAL(free)(mem);
}

/* what libc and sanitizers map for themselves does not come by here */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
extern void *__interceptor_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t at);
extern int __interceptor_munmap(void *addr, size_t len);
#define real_mmap	__interceptor_mmap
#define real_munmap	__interceptor_munmap
#else
#define real_mmap(addr, len, prot, flags, fd, at) \
	((void *)syscall(SYS_mmap, addr, len, prot, flags, fd, at))
#define real_munmap(addr, len)	((int)syscall(SYS_munmap, addr, len))
#endif

/* libc has it by two names, and its headers choose one: these are both */
void *counted_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t at) __asm__("mmap");
void *counted_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t at)
	__asm__("mmap64");

__attribute__((visibility("default")))
void *counted_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t at)
{
	void *mem = real_mmap(addr, len, prot, flags, fd, at);

	/* over a mapping that is counted already */
	if (mem != MAP_FAILED && !(flags & MAP_FIXED))
		__atomic_add_fetch(&mapped, (len + 4095) & -4096L, __ATOMIC_SEQ_CST);
	return mem;
}

__attribute__((visibility("default")))
void *counted_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t at)
{
	return counted_mmap(addr, len, prot, flags, fd, at);
}

__attribute__((visibility("default"))) int munmap(void *addr, size_t len)
{
	int err = real_munmap(addr, len);

	if (!err)
		__atomic_sub_fetch(&mapped, (len + 4095) & -4096L, __ATOMIC_SEQ_CST);
	return err;
}
