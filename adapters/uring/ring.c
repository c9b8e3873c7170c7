// SPDX-License-Identifier: MIT
/*
 * The ring's buffer table, through the ring's own descriptor.
 *
 * Not through liburing: where a program has registered the ring's descriptor
 * (io_uring_register_ring_fd()), liburing 2.4 and newer name the ring by its number in a table that
 * each thread has for itself. On another thread, such as the reaper, that number means no ring, or
 * another one, whose slots would be cleared.
 *
 * The functions are weak, so that tests can stand in their place.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "adapter.h"

static int ring_register(const struct io_uring *ring, unsigned int what, void *arg,
			 unsigned int nr)
{
	long ret = syscall(SYS_io_uring_register, ring->ring_fd, what, arg, nr);

	return ret < 0 ? -errno : (int)ret;
}

bool ring_has_descriptor(const struct io_uring *ring)
{
	return ring->ring_fd >= 0 && !(ring->flags & RING_NO_DESCRIPTOR);
}

__attribute__((weak)) int ring_make_table(struct io_uring *ring, unsigned int nr_slots)
{
	struct io_uring_rsrc_register table = {
		.nr = nr_slots, .flags = IORING_RSRC_REGISTER_SPARSE,
	};

	return ring_register(ring, IORING_REGISTER_BUFFERS2, &table, sizeof(table));
}

__attribute__((weak)) int ring_drop_table(struct io_uring *ring)
{
	return ring_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

__attribute__((weak)) int ring_update(struct io_uring *ring, unsigned int slot,
				      const struct iovec *iov, unsigned int nr)
{
	struct io_uring_rsrc_update2 update = {
		.offset = slot, .data = (unsigned long)iov, .nr = nr,
	};

	return ring_register(ring, IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof(update));
}

/* struct io_uring_clone_buffers, which older headers lack */
struct copy_slots {
	uint32_t from;		/* a descriptor */
	uint32_t flags;
	uint32_t first_from;
	uint32_t first_to;
	uint32_t nr;
	uint32_t unused[3];
};

#define RING_COPY_SLOTS	30u	/* IORING_REGISTER_CLONE_BUFFERS */
#define COPY_REPLACES	2u	/* IORING_REGISTER_DST_REPLACE */

__attribute__((weak)) int ring_copy(struct io_uring *ring, const struct io_uring *from,
				    unsigned int slot)
{
	struct copy_slots copy = {
		.from = from->ring_fd, .flags = COPY_REPLACES,
		.first_from = slot, .first_to = slot, .nr = 1,
	};

	return ring_register(ring, RING_COPY_SLOTS, &copy, 1);
}

__attribute__((weak)) bool ring_knows(struct io_uring *ring, unsigned int opcode)
{
	struct {
		struct io_uring_probe head;
		struct io_uring_probe_op ops[256];
	} probe = {};

	return !ring_register(ring, IORING_REGISTER_PROBE, &probe, 256) &&
	       probe.ops[opcode].flags & IO_URING_OP_SUPPORTED;
}

int ring_open(struct io_uring *ring)
{
	struct io_uring_params params = {};
	/* its queues are never mapped; the kernel closes the descriptor at an exec */
	long fd = syscall(SYS_io_uring_setup, 1, &params);

	*ring = (struct io_uring){ .ring_fd = (int)fd };
	return fd < 0 ? -errno : 0;
}

void ring_close(struct io_uring *ring)
{
	close(ring->ring_fd);
}
