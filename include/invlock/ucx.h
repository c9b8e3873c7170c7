/* SPDX-License-Identifier: MIT */
/*
 * The adapter for UCX: operations never use a registration of memory that is no longer there.
 *
 * UCX keeps registrations, and finds out by hooks in libc when memory goes away. It misses what
 * does not pass through these hooks: system calls that are made directly, mremap onto memory, a
 * file that is truncated. This adapter leaves UCX its cache. Before an operation on memory it
 * asks invlock whether the memory is still what it was when UCX last registered it. If not, UCX
 * is told to forget what it has there, and registers anew.
 *
 *	invlock_ucx_check(buf, len);
 *	request = ucp_tag_send_nbx(ep, buf, len, tag, &param);
 *
 * A program that cannot be changed preloads libinvlock-ucx-preload.so, which makes this call at the
 * head of each function of UCP that takes memory of the program.
 *
 * Each operation that was checked is exact, if the memory map does not change between the check and
 * the end of the operation. Memory that a peer reaches by an rkey is not exact, because no call of
 * this process tells of its use. It is checked when it is registered with ucp_mem_map(). Nor is an
 * operation with a memory handle (UCP_OP_ATTR_FIELD_MEMH), which uses that registration.
 */
#ifndef INVLOCK_UCX_H
#define INVLOCK_UCX_H

#include <stddef.h>
#include <stdint.h>
#include <invlock/version.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * invlock_ucx_check() - make UCX forget registrations of this memory that are stale
 * @addr: the memory of the operation that follows
 * @len: bytes; 0 is nothing
 *
 * The first call opens the monitor, as invlock_mm_open() does without options. If that fails, a
 * sentence on stderr says so once, and each call tells UCX to forget. That is slow, but no stale
 * registration is used.
 *
 * Context: on any thread that may call UCX; a hit takes no lock. Not from a callback of UCX.
 * Return: 0; -errno, as invlock_cache_get(), if it is unknown whether the memory has changed. UCX
 * has been told to forget then, so the operation may go on. Since: 0.1
 */
int invlock_ucx_check(const void *addr, size_t len)
	INVLOCK_ONLY_ADDRESS(1);

/**
 * struct invlock_ucx_stats - what the checks found
 * @size: sizeof(struct invlock_ucx_stats), set by the caller
 * @checks: calls of invlock_ucx_check() with memory
 * @forgotten: how often UCX was told to forget
 * @unknown: of these, how often because it was unknown whether the memory had changed
 */
struct invlock_ucx_stats {
	size_t size;
	uint64_t checks;
	uint64_t forgotten;
	uint64_t unknown;
};

/**
 * invlock_ucx_stats() - read what the checks found
 * @ret_stats: its size field is set by the caller
 *
 * Context: any. Return: 0; -EINVAL for NULL or a size that is too small. Since: 0.1
 */
int invlock_ucx_stats(struct invlock_ucx_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif /* INVLOCK_UCX_H */
