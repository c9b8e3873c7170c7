// SPDX-License-Identifier: MIT
/* Mappings that are taken away, replaced, moved or protected. */
#include <errno.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/port_raw.h"
#include "lib/page.h"
#include "trial.h"

static int unmap_by_syscall(void *addr, size_t len)
{
	return syscall(SYS_munmap, addr, len) ? -1 : 0;
}

static int unmap_by_instruction(void *addr, size_t len)
{
	long err = raw_munmap(addr, len);

	errno = -err;
	return err ? -1 : 0;
}

static int map_over(void *addr, size_t len)
{
	return mmap(addr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		    -1, 0) == MAP_FAILED ? -1 : 0;
}

static int protect(void *addr, size_t len)
{
	return mprotect(addr, len, PROT_NONE);
}

/* Key -1 means no key: only that it is another call than mprotect() matters here. */
static int protect_with_key(void *addr, size_t len)
{
	return syscall(SYS_pkey_mprotect, addr, len, PROT_READ, -1) ? -1 : 0;
}

/* Afterwards the first page shows what the second page shows. */
static int reorder(void *addr, size_t len)
{
	size_t page = page_bytes();

	(void)len;
	return remap_file_pages(addr, page, 0, 1, 0);
}

enum remap { WATCH_SOURCE, WATCH_DESTINATION, KEEP_SOURCE };

static void remap(struct trial *t)
{
	enum remap how = t->change->how;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	u8 *from, *to;
	void *moved = MAP_FAILED;

	if (how == KEEP_SOURCE)
		flags |= MREMAP_DONTUNMAP;
	from = trial_map(t, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!from)
		return;
	to = trial_map(t, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!to)
		goto unmap_from;
	if (trial_begin(t, how == WATCH_DESTINATION ? to : from, t->len)) {
		/* not mremap() of libc: UCX replaces it by its own, which loses @to */
		moved = (void *)syscall(SYS_mremap, from, t->len, t->len, flags, to);
		trial_end(t, moved == MAP_FAILED ? -1 : 0);
	}
	munmap(to, t->len);
unmap_from:
	if (moved == MAP_FAILED || how == KEEP_SOURCE)
		munmap(from, t->len);
}

static void remap_shrink(struct trial *t)
{
	u8 *p = trial_map(t, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	size_t left = t->len / 2, mapped = t->len;

	if (!p)
		return;
	if (trial_begin(t, p + left, t->len - left)) {
		if (mremap(p, t->len, left, 0) != MAP_FAILED)
			mapped = left;
		trial_end(t, mapped == left ? 0 : -1);
	}
	munmap(p, mapped);
}

/* Attaches a segment that is removed with its last user, even if this process is killed. */
static u8 *attach_segment(struct trial *t, int *ret_id)
{
	int id = shmget(IPC_PRIVATE, t->len, IPC_CREAT | 0600);
	u8 *p;

	if (id < 0) {
		trial_unknown(t, "no System V shared memory: shmget: %s", strerror(errno));
		return NULL;
	}
	p = shmat(id, NULL, 0);
	if (p == (void *)-1) {
		trial_unknown(t, "no System V shared memory: shmat: %s", strerror(errno));
		p = NULL;
	}
	shmctl(id, IPC_RMID, NULL);
	if (p)
		memset(p, 1, t->len);
	*ret_id = id;
	return p;
}

static void detach(struct trial *t)
{
	int id, made = -1;
	u8 *p = attach_segment(t, &id);

	if (!p)
		return;
	if (trial_begin(t, p, t->len)) {
		made = shmdt(p);
		trial_end(t, made);
	}
	if (made)
		shmdt(p);
}

static void attach_over(struct trial *t)
{
	void *over = (void *)-1;
	u8 *p, *target;
	int id;

	p = attach_segment(t, &id);
	if (!p)
		return;
	target = trial_map(t, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!target)
		goto detach_first;
	if (trial_begin(t, target, t->len)) {
		over = shmat(id, target, SHM_REMAP);
		trial_end(t, over == (void *)-1 ? -1 : 0);
	}
	/* This removes what is there now: the segment, or still the target. */
	munmap(target, t->len);
detach_first:
	shmdt(p);
}

const struct map_change map_changes[] = {
	{ "munmap (libc)", INVLOCK_KIND_UNMAP, trial_unmapped, munmap },
	{ "munmap (raw system call)", INVLOCK_KIND_UNMAP, trial_unmapped, unmap_by_syscall },
	{ "munmap (inline assembly)", INVLOCK_KIND_UNMAP, trial_unmapped, unmap_by_instruction },
	{ "mmap MAP_FIXED over", INVLOCK_KIND_FIXED, trial_private, map_over },
	{ "mremap (source)", INVLOCK_KIND_REMAP_FROM, remap, .how = WATCH_SOURCE },
	{ "mremap (source, DONTUNMAP)", INVLOCK_KIND_REMAP_FROM, remap, .how = KEEP_SOURCE },
	{ "mremap (destination)", INVLOCK_KIND_REMAP_TO, remap, .how = WATCH_DESTINATION },
	{ "mremap (shrink)", INVLOCK_KIND_REMAP_FROM, remap_shrink },
	{ "mprotect", INVLOCK_KIND_PROTECT, trial_private, protect },
	{ "pkey_mprotect", INVLOCK_KIND_PROTECT, trial_private, protect_with_key },
	{ "remap_file_pages", INVLOCK_KIND_REORDER, trial_shared, reorder },
	{ "shmdt", INVLOCK_KIND_SHMDT, detach },
	{ "shmat SHM_REMAP", INVLOCK_KIND_SHM_REMAP, attach_over },
	{ NULL }
};
