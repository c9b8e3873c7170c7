// SPDX-License-Identifier: MIT
/* Pages that are given back while their mapping stays: the family of madvise. */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/page.h"
#include "trial.h"
#include "uring.h"

/* newer than the oldest headers that we build with */
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#endif

static int dont_need(void *addr, size_t len)
{
	return madvise(addr, len, MADV_DONTNEED);
}

/* If mlock() is not allowed, the advice still discards the pages. */
static int dont_need_locked(void *addr, size_t len)
{
	mlock(addr, page_bytes());
	return madvise(addr, len, MADV_DONTNEED_LOCKED);
}

static int free_lazily(void *addr, size_t len)
{
	return madvise(addr, len, MADV_FREE);
}

static int remove_pages(void *addr, size_t len)
{
	return madvise(addr, len, MADV_REMOVE);
}

static int install_guard(void *addr, size_t len)
{
	return madvise(addr, len, MADV_GUARD_INSTALL);
}

static int advise_self(void *addr, size_t len)
{
	struct iovec range = { addr, len };
	int self = syscall(SYS_pidfd_open, getpid(), 0);
	ssize_t advised;

	if (self < 0)
		return -1;
	advised = syscall(SYS_process_madvise, self, &range, 1, MADV_DONTNEED, 0);
	close(self);
	return advised == (ssize_t)len ? 0 : -1;
}

static void advise_by_uring(struct trial *t)
{
	struct change_uring ring;
	u8 *p;

	if (change_uring_open(&ring)) {
		trial_unknown(t, "no io_uring: %m");
		return;
	}
	p = trial_map(t, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (p) {
		if (trial_begin(t, p, t->len))
			trial_end(t, change_uring_madvise(&ring, p, t->len, MADV_DONTNEED));
		munmap(p, t->len);
	}
	change_uring_close(&ring);
}

const struct map_change advise_changes[] = {
	{ "madvise DONTNEED", INVLOCK_KIND_DISCARD, trial_private, dont_need },
	{ "madvise DONTNEED_LOCKED", INVLOCK_KIND_DISCARD, trial_private, dont_need_locked },
	{ "madvise FREE", INVLOCK_KIND_FREE, trial_private, free_lazily },
	{ "madvise REMOVE", INVLOCK_KIND_REMOVE, trial_shared, remove_pages },
	{ "madvise GUARD_INSTALL", INVLOCK_KIND_GUARD, trial_private, install_guard },
	{ "process_madvise (self)", INVLOCK_KIND_DISCARD, trial_private, advise_self },
	{ "io_uring MADVISE", INVLOCK_KIND_URING, advise_by_uring },
	{ NULL }
};
