// SPDX-License-Identifier: MIT
/*
 * The kernel module's monitor: an mmu_notifier of this process writes the feed before and after
 * each change of its page tables, whatever causes the change.
 *
 * The module also sees PROTECT, SOFT_DIRTY and some of MIGRATE. It leaves them out of the feed,
 * because no pinned registration goes stale by them.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <invlock/dev.h>

#include "lib/lockdown.h"
#include "monitor.h"

#define DEVICE	"/dev/invlock"

static int explain_absence(struct invlock_why *why)
{
	const char *locked = lockdown_mode();

	explain(why, -ENOENT, "there is no " DEVICE ": the kernel module, which is optional, is "
		"not loaded; ");
	if (locked)
		explain_more(why, "this kernel is locked down (%s) and takes no module that is not "
			     "signed with a key that it trusts: see invlock.ko(4)", locked);
	else
		explain_more(why, "`modprobe invlock` loads it where it is installed, and "
			     "invlock.ko(4) says how to install it");
	return -ENOENT;
}

static int explain_open(struct invlock_why *why, int err)
{
	switch (err) {
	case ENOENT:
		return explain_absence(why);
	case EACCES:
	case EPERM:
		return explain(why, -err, "this user may not open " DEVICE ": give it read "
			       "permission");
	case ENOSPC:
		return explain(why, -err, "this user has as many feeds as the kernel module allows "
			       "(its parameter user_feeds): close some, or have it raised");
	case ENOMEM:
		return explain(why, -err, "no memory for another feed of " DEVICE ": it is charged "
			       "to this process's cgroup");
	default:
		return explain(why, -err, "cannot open " DEVICE ": %s", strerror(err));
	}
}

static int kmod_open(struct invlock_mm *mm, struct invlock_why *why)
{
	struct invlock_feed_see see = { .size = sizeof(see) };
	void *feed;
	int fd, err;

	fd = open(DEVICE, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return explain_open(why, errno);
	if (ioctl(fd, INVLOCK_FEED_SEE, &see)) {
		err = explain(why, -errno, DEVICE " does not answer like this version's module "
			      "(%s): load the one that belongs to this library", strerror(errno));
		goto close_fd;
	}
	feed = mmap(NULL, see.feed_size, PROT_READ, MAP_SHARED, fd, 0);
	if (feed == MAP_FAILED) {
		err = explain(why, -errno, "cannot map the feed of " DEVICE ": %s",
			      strerror(errno));
		goto close_fd;
	}
	err = invlock_attach(&mm->il, feed, see.feed_size);
	if (err) {
		munmap(feed, see.feed_size);
		err = explain(why, err, "the feed of " DEVICE " has another layout: load the "
			      "module that belongs to this library");
		goto close_fd;
	}
	mm->feed_bytes = see.feed_size;
	/* The mapping keeps the device open. */
close_fd:
	close(fd);
	return err;
}

static void kmod_close(struct invlock_mm *mm, bool mine)
{
	/* A forked child has no copy of the mapping: another mapping may lie there. */
	if (mine)
		munmap(mm->il.feed, mm->feed_bytes);
}

#define SEEN	(INVLOCK_KINDS_SHARED | INVLOCK_BIT(TRUNCATE_PRIVATE) | INVLOCK_BIT(MOVE))

const struct monitor monitor_kmod = {
	.name = "kmod",
	.seen = SEEN,
	.exact = SEEN,
	.open = kmod_open,
	.close = kmod_close,
};
