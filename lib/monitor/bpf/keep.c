// SPDX-License-Identifier: MIT
#include "keep.h"

#include <linux/io_uring.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/page.h"

/* of the ring; a mapping of this part keeps all of it */
#define KEEP_BYTES	page_bytes()

void *keep_open(const int *fds, unsigned int nr)
{
	struct io_uring_params params = {};
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	void *kept = MAP_FAILED;

	if (ring < 0)
		return NULL;
	if (!syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, fds, nr))
		kept = mmap(NULL, KEEP_BYTES, PROT_READ, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	close(ring);
	if (kept == MAP_FAILED)
		return NULL;
	/* A forked child must not keep the parent's files open. */
	if (madvise(kept, KEEP_BYTES, MADV_DONTFORK)) {
		munmap(kept, KEEP_BYTES);
		return NULL;
	}
	return kept;
}

void keep_end(void *kept)
{
	if (kept)
		munmap(kept, KEEP_BYTES);
}
