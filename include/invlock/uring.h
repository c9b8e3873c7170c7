/* SPDX-License-Identifier: MIT */
/*
 * The io_uring adapter: fixed-buffer speed for any pointer, without managing buffers.
 *
 * It owns the fixed-buffer table of a ring that the program has set up, and keeps the
 * program's memory registered there for as long as the registration is good.
 *
 *	struct invlock_uring_op op;	one for each request, until its CQE
 *
 *	sqe = io_uring_get_sqe(&ring);
 *	invlock_uring_prep_read(uring, sqe, fd, buf, len, offset, &op);
 *	io_uring_sqe_set_data(sqe, &op);
 *	io_uring_submit(&ring);
 *	...
 *	io_uring_wait_cqe(&ring, &cqe);
 *	invlock_uring_done(io_uring_cqe_get_data(cqe));
 *
 * Memory that cannot be registered, or is not worth it, is read and written by a plain
 * request, which gives the same bytes. That is not an error.
 *
 * Any pointer will do, also one of malloc(), wherever a plain request is served: since Linux 6.18
 * a fixed request asks no more of its memory. Before, direct I/O could ask more: Linux 6.0 to 6.17
 * look at a fixed buffer page by page, and each piece must be whole blocks of the file. Memory that
 * begins 512 bytes into a page would get -EINVAL in its CQE with blocks of 4 KiB, where a plain
 * request is served. So, on kernels before 6.18, what does not begin at a page goes plain, unless
 * the program sets invlock_uring_options.align to what all of its files allow:
 * invlock_uring_file_align() says it of one.
 *
 * A program that takes its buffers from a pool has all of it registered at once with
 * invlock_uring_prime(); otherwise each buffer is registered when it is first used.
 *
 * Several rings, such as one for each thread, that use the same memory can share registrations, so
 * that memory is pinned once: INVLOCK_URING_SHARE and invlock_uring_join().
 *
 * Threads: prep_read and prep_write as for the submission queue, one thread at a time;
 * all else on any thread. A ring that belongs to one thread (IORING_SETUP_SINGLE_ISSUER)
 * also registers on that thread only: there nothing is reaped by a thread of the library,
 * and calls that say so below belong on the ring's thread.
 *
 * The ring's descriptor may be registered (io_uring_register_ring_fd()), but must stay open as long
 * as the adapter is: only it means the ring on every thread.
 */
#ifndef INVLOCK_URING_H
#define INVLOCK_URING_H

#include <liburing.h>
#include <invlock/cache.h>

#ifdef __cplusplus
extern "C" {
#endif

struct invlock_uring;

/*
 * The way a request goes: fixed, or plain and why. The number is the place in
 * invlock_uring_stats.ways. Append only.
 */
enum invlock_uring_way {
	INVLOCK_URING_FIXED	= 0,	/* with a registered buffer */
	INVLOCK_URING_SMALL	= 1,	/* shorter than min_len, or empty */
	INVLOCK_URING_LARGE	= 2,	/* longer than 1 GiB (a vector: 8 MiB), or than max_bytes */
	INVLOCK_URING_REFUSED	= 3,	/* the kernel does not register this memory: a hole, */
					/* read-only, a mapped file; asked now */
	INVLOCK_URING_KNOWN	= 4,	/* refused or unwatched, as an earlier request found */
	INVLOCK_URING_FULL	= 5,	/* every slot, or max_bytes, is in use by requests */
	INVLOCK_URING_MEMLOCK	= 6,	/* RLIMIT_MEMLOCK is reached, or memory is short */
	INVLOCK_URING_COLLIDED	= 7,	/* the memory map changed too often meanwhile */
	INVLOCK_URING_THREAD	= 8,	/* another thread than a SINGLE_ISSUER ring's */
	INVLOCK_URING_UNWATCHED	= 9,	/* the monitor refuses this memory, of which it might not */
					/* see a change; or it can no longer tell any change */
	INVLOCK_URING_OTHER	= 10,	/* another error of the registration */
	INVLOCK_URING_UNALIGNED	= 11,	/* the memory is not aligned to options.align */
	INVLOCK_URING_SCATTERED	= 12,	/* a vector: so much lies between its elements that they */
					/* are not registered together */
	INVLOCK_URING_UNSUPPORTED = 13,	/* the kernel has no such request for registered memory */
	INVLOCK_URING_NR_WAYS
};

/**
 * invlock_uring_way_name() - the name of a way, as tools print it
 * @way: enum invlock_uring_way
 *
 * Context: any. Return: a constant string, "unknown" for a number that is none.
 * Since: 0.1
 */
const char *invlock_uring_way_name(unsigned int way);

/*
 * As INVLOCK_CACHE_REAPER and INVLOCK_CACHE_NO_REAPER: the slots of dead memory are cleared by
 * preps that register, and by a thread of the library otherwise. A SINGLE_ISSUER ring, which such a
 * thread may not touch, never has a reaper: see invlock_uring_cache() for times when nothing
 * registers.
 */
#define INVLOCK_URING_REAPER	1u	/* the default; may be given explicitly */
#define INVLOCK_URING_NO_REAPER	2u	/* no thread of the library clears slots */

/*
 * Other rings may join this adapter (invlock_uring_join()). Memory is then registered once for all
 * of them, in a ring of the library's own, and each ring that uses it copies the registration into
 * its own table: nothing is pinned or charged anew. It is as exact as without sharing: a change of
 * memory ends the one registration, and with it every copy.
 *
 * Needs Linux 6.13. Before, the kernel copies only whole tables, into rings that have none, so no
 * registration could be added later. Nor does it copy between rings that were set up by different
 * users, or of which one was set up with CAP_IPC_LOCK and one without. Where it does not copy, each
 * adapter registers for itself: all works, but each ring pins what it uses.
 * invlock_uring_stats.sharing tells.
 *
 * What sharing costs: one descriptor, and, when a ring first uses a registration, a system call
 * whose time grows with @slots: some microseconds for 1024 slots, which is what registering 256 KiB
 * takes. It saves time with larger buffers. If the program closes that descriptor, as a daemon that
 * closes all does, requests into memory that their ring has not used yet go plain
 * (INVLOCK_URING_OTHER).
 */
#define INVLOCK_URING_SHARE	4u

/**
 * struct invlock_uring_options - an adapter's properties
 * @size: sizeof(struct invlock_uring_options)
 * @flags: INVLOCK_URING_*
 * @slots: size of the fixed-buffer table; 0 = 1024, at most 16384
 * @min_len: shorter requests go plain; 0 = 16 KiB, because with 4 KiB pages and O_DIRECT registered
 *	memory pays from there on; 1 = none is too short
 * @max_bytes: registered at once; 0 = RLIMIT_MEMLOCK as it stands at the open, or no
 *	limit for a process with CAP_IPC_LOCK. Before Linux 6.4 the kernel counts memory against
 *	RLIMIT_MEMLOCK up to a second longer than it is registered: what finds no room meanwhile
 *	goes plain
 * @granule: as in struct invlock_cache_options
 * @need: as in struct invlock_cache_options
 * @rounds: as in struct invlock_cache_options
 * @time_ns: as in struct invlock_cache_options
 * @reap_ms: as in struct invlock_cache_options
 * @align: requests whose memory does not begin on a multiple of this go plain: a power of
 *	two; 1 = any address may be fixed; 0 = 1 since Linux 6.18, a page before; see above
 */
struct invlock_uring_options {
	size_t size;
	unsigned int flags;
	unsigned int slots;
	size_t min_len;
	uint64_t max_bytes;
	size_t granule;
	uint64_t need;
	unsigned int rounds;
	uint64_t time_ns;
	unsigned int reap_ms;
	unsigned int align;
};

/**
 * invlock_uring_open() - take over a ring's fixed-buffer table
 * @ring: set up by the program, without registered buffers; must stay where it is until
 *	the adapter is closed
 * @mm: the adapter takes a reference
 * @options: NULL for the defaults
 * @ret_uring: written on success only
 * @why: NULL, or filled with the reason of an error
 *
 * The program keeps the ring and everything else on it, but must not register buffers itself.
 * Context: may sleep, allocates; on the ring's thread.
 * Return: 0; -E2BIG for a field that this version does not know; -EINVAL for bad options, or a
 * ring without a descriptor (IORING_SETUP_REGISTERED_FD_ONLY, io_uring_close_ring_fd()); -EBUSY
 * when the ring has registered buffers already; -ENOSYS when the kernel is older than 5.19 and
 * has no sparse tables; -EEXIST on another thread than a SINGLE_ISSUER ring's; otherwise as
 * invlock_cache_open(), or as the kernel refused the table. Since: 0.1
 */
int invlock_uring_open(struct io_uring *ring, struct invlock_mm *mm,
		       const struct invlock_uring_options *options,
		       struct invlock_uring **ret_uring, struct invlock_why *why);

/**
 * invlock_uring_join() - take over a ring's table, and share another adapter's registrations
 * @ring: as for invlock_uring_open()
 * @other: an adapter that was opened with INVLOCK_URING_SHARE, or has joined one; it must not be
 *	closed during the call, and may be afterwards
 * @ret_uring: written on success only
 * @why: NULL, or filled with the reason of an error
 *
 * The new adapter has the mm and the options of @other. The adapters that share have one cache, so
 * slots, max_bytes and the statistics of the cache are those of all together. Each is used by its
 * own ring's thread, and all else is as if they did not share. The cache is closed with the last.
 *
 * A ring that belongs to one thread (IORING_SETUP_SINGLE_ISSUER) may join, too. When memory dies,
 * the reaper clears the copies of other rings; such a ring clears its own at its next request that
 * is long enough to be fixed (options.min_len), and the memory stays pinned until then. They are
 * counted as uncleared meanwhile.
 *
 * Context: as invlock_uring_open(); meanwhile other threads may use @other, and join it.
 * Return: as invlock_uring_open(), where the kernel cannot share, too; -EINVAL when @other was
 * not opened with INVLOCK_URING_SHARE; -EOWNERDEAD in a forked child. Since: 0.1
 */
int invlock_uring_join(struct io_uring *ring, struct invlock_uring *other,
		       struct invlock_uring **ret_uring, struct invlock_why *why);

/**
 * invlock_uring_close() - deregister everything, give the table back
 * @uring: the adapter; NULL is nothing
 *
 * To be called before io_uring_queue_exit(). In a forked child it frees the copy and
 * leaves the ring alone, which is the parent's. Of adapters that share, the last one deregisters.
 * Context: may sleep; on the ring's thread; no other call on @uring may run.
 * Return: 0; -EBUSY while a fixed request is not done, and -EEXIST on the wrong thread:
 * then the adapter goes on as before. Since: 0.1
 */
int invlock_uring_close(struct invlock_uring *uring);

/**
 * struct invlock_uring_op - a request, from prep to its CQE
 * @way: how it goes, enum invlock_uring_way
 * @slot: with INVLOCK_URING_FIXED, the number of the registered buffer in the ring's table
 * Others: private. Lies in the program's memory, and must stay there until it is done.
 */
struct invlock_uring_op {
	struct invlock_uring *uring;
	struct invlock_pin pin;
	unsigned int way;
	unsigned int slot;
};

/**
 * invlock_uring_prep_read() - prepare a read into any memory
 * @uring: the adapter
 * @sqe: from io_uring_get_sqe() of its ring
 * @fd: as for io_uring_prep_read()
 * @buf: where to; need not be aligned more than @fd asks for; see options.align
 * @len: bytes; like read(2), one request moves at most 0x7ffff000
 * @offset: in the file; (uint64_t)-1 = the file's own position
 * @op: not in use by another request
 *
 * Fills @sqe as io_uring_prep_read_fixed() or io_uring_prep_read(): the program sets
 * user_data and flags afterwards. Until @op is done the slot that @sqe names holds this
 * memory and no other, however long the request waits to be submitted, is linked,
 * cancelled or short.
 *
 * What the program asks to be read is decided now: memory that changes between this
 * call and the CQE is its own race with the device, as with any asynchronous read.
 *
 * Context: the first request on a range registers it, which may sleep; later ones do not.
 * Return: enum invlock_uring_way, as in op->way; -EINVAL for NULL, -EOWNERDEAD in a
 * forked child, and then nothing is prepared. A bad @fd, @buf or @offset is reported by
 * the CQE, as by a plain request. Since: 0.1
 */
int invlock_uring_prep_read(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			    void *buf, size_t len, uint64_t offset, struct invlock_uring_op *op);

/**
 * invlock_uring_prep_write() - prepare a write from any memory
 *
 * Parameters, context, return: as for invlock_uring_prep_read(). Since: 0.1
 */
int invlock_uring_prep_write(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			     const void *buf, size_t len, uint64_t offset,
			     struct invlock_uring_op *op);

/**
 * invlock_uring_prep_send_zc() - prepare a send without a copy, from any memory
 * @uring: the adapter
 * @sqe: from io_uring_get_sqe() of its ring
 * @fd: a socket
 * @buf: what to send
 * @len: bytes
 * @flags: as for send(2)
 * @zc_flags: as for io_uring_prep_send_zc()
 * @op: not in use by another request
 *
 * Such a request has two CQEs: @op is done with the one that has IORING_CQE_F_NOTIF, or with the
 * first if that has no IORING_CQE_F_MORE. Until then the socket may still read the memory.
 * Needs Linux 6.0: before, the CQE says -EINVAL.
 * Context, return: as for invlock_uring_prep_read(). Since: 0.1
 */
int invlock_uring_prep_send_zc(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			       const void *buf, size_t len, int flags, unsigned int zc_flags,
			       struct invlock_uring_op *op);

/**
 * invlock_uring_prep_readv() - prepare a read into several pieces of memory
 * @uring: the adapter
 * @sqe: from io_uring_get_sqe() of its ring
 * @fd: as for io_uring_prep_readv()
 * @iov: the pieces, which are read now, and by the kernel when the request is submitted
 * @nr: how many
 * @offset: in the file; (uint64_t)-1 = the file's own position
 * @op: not in use by another request
 *
 * Fixed if all pieces lie in one registration, as those of a pool do that was registered with
 * invlock_uring_prime(). If they do not, the range from the first to the last piece is registered,
 * provided that the pieces are at least half of it; else the request goes plain
 * (INVLOCK_URING_SCATTERED). So does a vector with an empty piece (INVLOCK_URING_SMALL), which the
 * kernel serves only plain, and one of more than 8 MiB (INVLOCK_URING_LARGE), for which it may lack
 * memory.
 * options.min_len is asked of all pieces together, options.align of each.
 *
 * Needs Linux 6.15 to be fixed; before, it goes plain (INVLOCK_URING_UNSUPPORTED). For the flags of
 * preadv2(2), set @sqe->rw_flags afterwards.
 * Context, return: as for invlock_uring_prep_read(); -EINVAL also for NULL as @iov with @nr not 0.
 * Since: 0.1
 */
int invlock_uring_prep_readv(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			     const struct iovec *iov, unsigned int nr, uint64_t offset,
			     struct invlock_uring_op *op);

/**
 * invlock_uring_prep_writev() - prepare a write from several pieces of memory
 *
 * Parameters, context, return: as for invlock_uring_prep_readv(). Since: 0.1
 */
int invlock_uring_prep_writev(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			      const struct iovec *iov, unsigned int nr, uint64_t offset,
			      struct invlock_uring_op *op);

/**
 * invlock_uring_prep_sendmsg_zc() - prepare a send without a copy, from several pieces of memory
 * @uring: the adapter
 * @sqe: from io_uring_get_sqe() of its ring
 * @fd: a socket
 * @msg: as for sendmsg(2); its pieces are read now, and all of it when the request is submitted
 * @flags: as for sendmsg(2)
 * @op: not in use by another request
 *
 * Which pieces are fixed, and on which kernels: as for invlock_uring_prep_readv(). Its CQEs, and
 * when it is done: as for invlock_uring_prep_send_zc(). Needs Linux 6.1: before, the CQE says
 * -EINVAL.
 * Context, return: as for invlock_uring_prep_readv(). Since: 0.1
 */
int invlock_uring_prep_sendmsg_zc(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
				  const struct msghdr *msg, unsigned int flags,
				  struct invlock_uring_op *op);

/**
 * invlock_uring_prep_cmd() - prepare a device's own command, such as one of NVMe, on any memory
 * @uring: the adapter
 * @sqe: from io_uring_get_sqe() of its ring
 * @fd: the device, such as /dev/ng0n1
 * @cmd_op: the command as the driver numbers it, such as NVME_URING_CMD_IO; not one that takes a
 *	vector (NVME_URING_CMD_IO_VEC), for which the program prepares its request itself
 * @buf: the memory that the command names
 * @len: bytes
 * @op: not in use by another request
 *
 * Fills all of @sqe but its command: the program writes that into @sqe->cmd afterwards, with @buf
 * and @len in it, the same for every way. Commands that are longer than 16 bytes need a ring with
 * IORING_SETUP_SQE128; NVMe also wants IORING_SETUP_CQE32.
 *
 * A driver gives the device a copy of memory that the device cannot reach, but not of registered
 * memory. So what does not begin and end on a multiple of 4 goes plain, which is what NVMe asks;
 * set options.align for a device that asks more. A driver that knows no registered buffers, or not
 * for this command, says so in the CQE: prepare a plain request for it.
 * Needs Linux 5.19, and 6.1 for NVMe with registered memory: before, the CQE says -EINVAL.
 * Context, return: as for invlock_uring_prep_read(). Since: 0.1
 */
int invlock_uring_prep_cmd(struct invlock_uring *uring, struct io_uring_sqe *sqe, int fd,
			   unsigned int cmd_op, const void *buf, size_t len,
			   struct invlock_uring_op *op)
	INVLOCK_ONLY_ADDRESS(5);

/**
 * invlock_uring_begin() - decide how a request goes, and leave its preparation to the program
 * @uring: the adapter
 * @buf: its memory
 * @len: bytes
 * @op: not in use by another request
 *
 * For operations on registered buffers that have no prep function here: where the way is
 * INVLOCK_URING_FIXED, the program prepares its own with @op->slot as buffer index, and else one
 * without a registered buffer.
 * Context, return: as for invlock_uring_prep_read(). Since: 0.1
 */
int invlock_uring_begin(struct invlock_uring *uring, const void *buf, size_t len,
			struct invlock_uring_op *op)
	INVLOCK_ONLY_ADDRESS(2);

/**
 * invlock_uring_file_align() - ask what fixed requests on a file ask of their memory
 * @fd: a descriptor, not the place of a registered file
 *
 * For invlock_uring_options.align: the largest answer for all of a program's files.
 * Context: some system calls. Return: what an address must be a multiple of, a power of two: 1 for
 * buffered files, and for all since Linux 6.18; for direct I/O the file's block, or a page if the
 * file does not tell; -EOPNOTSUPP when this kernel serves no fixed request on it, because its
 * blocks are larger than a page; -EBADF. Since: 0.1
 */
int invlock_uring_file_align(int fd);

/**
 * invlock_uring_prime() - register memory before it is used
 * @uring: the adapter
 * @addr: first byte of, say, a pool of buffers
 * @len: bytes, not 0
 *
 * One registration for each GiB: it serves every request inside, and fills one slot. Buffer by
 * buffer, a pool with more buffers than there are slots never stays registered. To be called again
 * after the memory was replaced; a request that finds it gone registers what it needs itself.
 * Context: as a request that registers: on the thread that prepares; may sleep.
 * Return: INVLOCK_URING_FIXED (0) when all of it is registered now; otherwise the way that requests
 * into the first part which could not be would go; -EINVAL for NULL or a bad range; -EOWNERDEAD in
 * a forked child. Since: 0.1
 */
int invlock_uring_prime(struct invlock_uring *uring, void *addr, size_t len);

/**
 * invlock_uring_done() - say that a request is over
 * @op: its CQE, or the last of them, has arrived, with whatever result; or it will never be
 *	submitted
 *
 * Context: any thread, never sleeps. Ordering: the slot is used again only afterwards.
 * Return: 0; -EINVAL for NULL, or when it was done before; -EOWNERDEAD in a forked child.
 * Since: 0.1
 */
int invlock_uring_done(struct invlock_uring_op *op);

/**
 * invlock_uring_cache() - get the cache behind an adapter
 * @uring: the adapter
 *
 * For invlock_cache_stats(), and for invlock_cache_fd(), _reap() and _drop(), of which the
 * last two belong on the ring's thread, unless adapters share it. Not to be closed.
 * Return: the cache; NULL for NULL. Since: 0.1
 */
struct invlock_cache *invlock_uring_cache(const struct invlock_uring *uring);

/**
 * struct invlock_uring_stats - what happened, by cause
 * @size: sizeof(struct invlock_uring_stats), set by the caller
 * @slots: size of the table
 * @slots_used: of these, with memory registered
 * @in_flight: fixed requests prepared and not done
 * @uncleared: slots that the kernel would not clear, because of the wrong thread; their
 *	memory stays pinned until the slot is used again or the adapter is closed
 * @max_bytes: the limit in force; 0 = none
 * @ways: requests prepared, by enum invlock_uring_way; unused places are 0
 * @sharing: adapters that share the registrations, this one included; slots and slots_used are
 *	those of all, the rest is this one's
 */
struct invlock_uring_stats {
	size_t size;
	uint64_t slots;
	uint64_t slots_used;
	uint64_t in_flight;
	uint64_t uncleared;
	uint64_t max_bytes;
	uint64_t ways[16];
	uint64_t sharing;
};

/**
 * invlock_uring_stats() - read the statistics of an adapter
 * @uring: the adapter
 * @ret_stats: its size field is set by the caller; filled up to that size
 *
 * Context: any. Return: 0; -EINVAL for NULL or a size below the first version's;
 * -EOWNERDEAD in a forked child. Since: 0.1
 */
int invlock_uring_stats(const struct invlock_uring *uring, struct invlock_uring_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif /* INVLOCK_URING_H */
