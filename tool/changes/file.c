// SPDX-License-Identifier: MIT
/* Truncation of a file on disk, and truncation by another process. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "changes.h"
#include "lib/selftest/truncate.h"
#include "process.h"

/* Open a file without a name in /var/tmp, which is less often in memory than /tmp. */
static int open_on_disk(void)
{
	char name[] = "/var/tmp/invlock-change-XXXXXX";
	int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

struct order {
	int fd;
	size_t len;
	unsigned int how;
};

static int truncate_as_ordered(void *arg)
{
	const struct order *order = arg;

	return truncate_file(order->fd, order->len, order->how);
}

static int make_by_other(struct trial *t, int fd, void *arg)
{
	(void)t;
	(void)fd;
	return other_act(arg);
}

static void by_other(struct trial *t, int fd)
{
	struct order order = { fd, t->len, t->change->how };
	struct other_process other;

	/* fork before the memory is mapped, so that the child has the file but not the mapping */
	if (other_start(&other, truncate_as_ordered, &order)) {
		trial_unknown(t, "cannot fork another process: %s", strerror(errno));
		return;
	}
	truncate_trial(t, fd, make_by_other, &other);
	other_end(&other);
}

static void on_file(struct trial *t)
{
	int fd;

	if (t->change->how & TRUNCATE_ON_DISK)
		fd = open_on_disk();
	else
		fd = memfd_create("invlock-change", MFD_CLOEXEC);
	if (fd < 0) {
		trial_unknown(t, "cannot make a file: %s", strerror(errno));
		return;
	}
	if (t->change->how & TRUNCATE_BY_OTHER)
		by_other(t, fd);
	else
		truncate_trial(t, fd, truncate_self, NULL);
	close(fd);
}

const struct map_change file_changes[] = {
	{ "ftruncate (memfd, other process)", INVLOCK_KIND_TRUNCATE, on_file,
		.how = TRUNCATE_BY_OTHER },
	{ "punch hole (memfd, other process)", INVLOCK_KIND_TRUNCATE, on_file,
		.how = TRUNCATE_PUNCH | TRUNCATE_BY_OTHER },
	{ "ftruncate (file)", INVLOCK_KIND_TRUNCATE, on_file,
		.how = TRUNCATE_ON_DISK },
	{ "punch hole (file)", INVLOCK_KIND_TRUNCATE, on_file,
		.how = TRUNCATE_PUNCH | TRUNCATE_ON_DISK },
	{ "ftruncate (file, other process)", INVLOCK_KIND_TRUNCATE, on_file,
		.how = TRUNCATE_ON_DISK | TRUNCATE_BY_OTHER },
	{ "punch hole (file, other process)", INVLOCK_KIND_TRUNCATE, on_file,
		.how = TRUNCATE_PUNCH | TRUNCATE_ON_DISK | TRUNCATE_BY_OTHER },
	{ "ftruncate (private copy of file)", INVLOCK_KIND_TRUNCATE_PRIVATE, on_file,
		.how = TRUNCATE_ON_DISK | TRUNCATE_PRIVATE },
	{ "ftruncate (private copy, not cached)", INVLOCK_KIND_TRUNCATE_PRIVATE, on_file,
		.how = TRUNCATE_ON_DISK | TRUNCATE_PRIVATE | TRUNCATE_DROPPED },
	{ NULL }
};
