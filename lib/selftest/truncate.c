// SPDX-License-Identifier: MIT
#include "truncate.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int truncate_file(int fd, size_t len, unsigned int how)
{
	if (how & TRUNCATE_PUNCH)
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, len);
	return ftruncate(fd, 0);
}

int truncate_self(struct trial *t, int fd, void *arg)
{
	(void)arg;
	return truncate_file(fd, t->len, t->change->how);
}

/* 0, or -1 and errno */
static int drop_page_cache(int fd)
{
	if (fdatasync(fd))
		return -1;
	errno = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return errno ? -1 : 0;
}

void truncate_trial(struct trial *t, int fd, int (*make)(struct trial *t, int fd, void *arg),
		    void *arg)
{
	unsigned int how = t->change->how;
	u8 *p;

	if (ftruncate(fd, t->len)) {
		trial_unknown(t, "no file to try it on: %s", strerror(errno));
		return;
	}
	p = trial_map(t, how & TRUNCATE_PRIVATE ? MAP_PRIVATE : MAP_SHARED, fd);
	if (!p)
		return;
	/* only clean pages can be dropped */
	if (how & TRUNCATE_DROPPED && drop_page_cache(fd))
		trial_unknown(t, "the page cache cannot be dropped: %s", strerror(errno));
	else if (trial_begin(t, p, t->len))
		trial_end(t, make(t, fd, arg));
	munmap(p, t->len);
}

static void on_memfd(struct trial *t)
{
	int fd = memfd_create("invlock-change", MFD_CLOEXEC);

	if (fd < 0) {
		trial_unknown(t, "no memfd: %s", strerror(errno));
		return;
	}
	truncate_trial(t, fd, truncate_self, NULL);
	close(fd);
}

const struct map_change truncate_changes[] = {
	{ "ftruncate (memfd)", INVLOCK_KIND_TRUNCATE, on_memfd },
	{ "punch hole (memfd)", INVLOCK_KIND_TRUNCATE, on_memfd, .how = TRUNCATE_PUNCH },
	{ "ftruncate (private copy of memfd)", INVLOCK_KIND_TRUNCATE_PRIVATE, on_memfd,
		.how = TRUNCATE_PRIVATE },
	{ NULL }
};
