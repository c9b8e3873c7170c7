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
