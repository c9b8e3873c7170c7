// SPDX-License-Identifier: MIT
#include "uring.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static void *map_ring(const struct change_uring *ring, size_t bytes, off_t offset)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			 ring->fd, offset);

	return mem == MAP_FAILED ? NULL : mem;
}

int change_uring_open(struct change_uring *ring)
{
	struct io_uring_params *p = &ring->params;
	int err;

	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(SYS_io_uring_setup, 2, p);
	if (ring->fd < 0)
		return -1;
	if (!(p->features & IORING_FEAT_SINGLE_MMAP)) {
		errno = ENOSYS;
		goto close_fd;
	}
	ring->sq_bytes = larger(p->sq_off.array + p->sq_entries * sizeof(u32),
				p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe));
	ring->sq = map_ring(ring, ring->sq_bytes, IORING_OFF_SQ_RING);
	if (!ring->sq)
		goto close_fd;
	ring->sqes_bytes = p->sq_entries * sizeof(struct io_uring_sqe);
	ring->sqes = map_ring(ring, ring->sqes_bytes, IORING_OFF_SQES);
	if (!ring->sqes)
		goto unmap_sq;
	return 0;

unmap_sq:
	err = errno;
	munmap(ring->sq, ring->sq_bytes);
	errno = err;
close_fd:
	err = errno;
	close(ring->fd);
	errno = err;
	return -1;
}

void change_uring_close(struct change_uring *ring)
{
	munmap(ring->sqes, ring->sqes_bytes);
	munmap(ring->sq, ring->sq_bytes);
	close(ring->fd);
}

static u32 *ring_word(const struct change_uring *ring, u32 offset)
{
	return (u32 *)(ring->sq + offset);
}

int change_uring_madvise(struct change_uring *ring, void *addr, size_t len, int advice)
{
	const struct io_uring_params *p = &ring->params;
	u32 *tail = ring_word(ring, p->sq_off.tail), *head = ring_word(ring, p->cq_off.head);
	u32 slot = *tail & *ring_word(ring, p->sq_off.ring_mask), done = *head;
	const struct io_uring_cqe *cqes = (void *)(ring->sq + p->cq_off.cqes);
	int res;

	ring->sqes[slot] = (struct io_uring_sqe){
		.opcode = IORING_OP_MADVISE,
		.fd = -1,
		.addr = (unsigned long)addr,
		.len = len,
		.fadvise_advice = advice,
	};
	ring_word(ring, p->sq_off.array)[slot] = slot;
	/* pairs with the kernel's load of the tail */
	port_store_release(tail, *tail + 1);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0) != 1)
		return -1;
	/* pairs with the kernel's store of the tail; the wait may be cut short by a signal */
	while (port_load_acquire(ring_word(ring, p->cq_off.tail)) == done)
		syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	res = cqes[done & *ring_word(ring, p->cq_off.ring_mask)].res;
	port_store_release(head, done + 1);
	errno = -res;
	return res < 0 ? -1 : 0;
}
