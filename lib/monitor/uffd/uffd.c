// SPDX-License-Identifier: MIT
/*
 * The userfaultfd monitor: needs no privilege, sees what happens to the ranges it watches.
 *
 * It asks the kernel (6.7 or newer) for asynchronous write protection, and then protects
 * nothing: page faults work as before, and the kernel sends the events of the ranges. See
 * thread.c for what is exact and why.
 *
 * Fork. The kernel does not hand the child's mappings to our userfaultfd (EVENT_FORK is off).
 * But the child has a copy of the file descriptor, so closing ours would not end the
 * userfaultfd, and a thread that unmaps would sleep for an event that nobody reads. So close
 * first takes all registrations back and waits for the changes in flight. The child closes its
 * copy during the fork. A child made by a raw clone() keeps its copy; if the parent's mremap()
 * then grows a watched mapping in place, the part that was added stays registered after the close.
 *
 * A process made with CLONE_VM but without CLONE_THREAD shares the memory. If it has a copy of the
 * descriptor, its parent is killed, and it then changes what the parent watched, it sleeps until it
 * is killed, too.
 *
 * A debugger that attaches, or LeakSanitizer, stops the threads one by one and waits for each. It
 * may wait for ever: a thread that sleeps until its event is read cannot be stopped, and our
 * thread, if it was stopped first, does not read the event. Ending the debugger ends the wait.
 * SIGSTOP waits for no thread, and SIGCONT lets all of them go on.
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/invalidate.h"
#include "lib/monitor/monitor.h"
#include "lib/page.h"
#include "uffd.h"

#define MAX_OPEN		16	/* at once, copies in forked children included */
#define DEFAULT_MAX_MAPS	65530
#define MAPS_PER_RUN		2

/* newer than the oldest headers we build with */
#define FEATURE_WP_UNPOPULATED	(1 << 13)
#define FEATURE_WP_ASYNC	(1 << 15)

/* ---- fork ---- */

/* Each entry is stored and cleared in one access. The caller of open lets no fork race it. */
static struct uffd *opened[MAX_OPEN];

static void close_copies_in_child(void)
{
	for (unsigned int i = 0; i < MAX_OPEN; i++) {
		struct uffd *u = port_load(&opened[i]);

		if (u)
			own_fd_close(&u->uffd);
	}
}

__attribute__((constructor)) static void close_on_fork(void)
{
	pthread_atfork(NULL, NULL, close_copies_in_child);
}

static bool opened_add(struct uffd *u)
{
	for (unsigned int i = 0; i < MAX_OPEN; i++)
		if (!port_cmpxchg(&opened[i], NULL, u))
			return true;
	return false;
}

static void opened_remove(struct uffd *u)
{
	for (unsigned int i = 0; i < MAX_OPEN; i++)
		port_cmpxchg(&opened[i], u, NULL);
}

/*
 * il.settle. Asks the kernel first whether it counts a change, and then whether the thread is at
 * work, because the kernel stops counting a change only after the thread has begun to read its
 * event.
 */
static bool settle(void *arg)
{
	struct uffd *u = arg;
	int saved_errno = errno;
	enum uffd_probe probe = uffd_probe(u);

	errno = saved_errno;
	if (unlikely(probe == UFFD_GONE))
		invlock_close_feed(&u->il, INVLOCK_FEED_DEGRADED);
	/* pairs with the RMWs in take_events(): 0 again, and the marks are seen */
	return probe != UFFD_CHANGING && !port_load_acquire(&u->thread->reading);
}

/* ---- open and close ---- */

static int open_uffd(struct uffd *u, struct invlock_why *why)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED | UFFD_FEATURE_EVENT_UNMAP |
			    UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_REMAP |
			    UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};

	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0 && errno == ENOSYS)
		return explain(
			why, -ENOSYS,
			"there is no userfaultfd: the kernel was built without "
			"CONFIG_USERFAULTFD, or seccomp hides it; allow the userfaultfd system "
			"call in the container's seccomp profile");
	if (fd < 0 && (errno == EPERM || errno == EACCES))
		return explain(why, -EPERM,
			       "userfaultfd is forbidden, by seccomp or a security module; "
			       "allow the userfaultfd system call in the container's profile");
	if (fd < 0 && errno == EINVAL)
		return explain(why, -EOPNOTSUPP,
			       "userfaultfd for user mode only is not known to this "
			       "kernel; the uffd monitor needs Linux 6.7 or newer");
	if (fd < 0)
		return explain(why, -errno, "userfaultfd failed: %s", strerror(errno));
	if (!ioctl(fd, UFFDIO_API, &api)) {
		own_fd_set_high(&u->uffd, fd);
		return 0;
	}
	close(fd);
	return explain(why, -EOPNOTSUPP, "the kernel's userfaultfd has no asynchronous write "
		       "protection or no events; the uffd monitor needs Linux 6.7 or newer, on an "
		       "architecture with userfaultfd write protection");
}

static void close_files(struct uffd *u)
{
	own_fd_close(&u->uffd);
	own_fd_close(&u->ear);
	own_fd_close(&u->bell);
	own_fd_close(&u->pagemap);
}

static int open_files(struct uffd *u, struct invlock_why *why)
{
	int err = open_uffd(u, why), ends[2], fd;

	if (err)
		return err;
	/* not an eventfd, because no eventfd can be told from another one */
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) {
		err = explain(why, -errno, "cannot make a pipe: %s", strerror(errno));
		goto close_files;
	}
	own_fd_set(&u->ear, ends[0]);
	own_fd_set(&u->bell, ends[1]);
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		err = explain(why, -errno, "cannot open /proc/self/pagemap, which tells what is "
			      "watched: %s; mount /proc", strerror(errno));
		goto close_files;
	}
	own_fd_set(&u->pagemap, fd);
	return 0;

close_files:
	close_files(u);
	return err;
}

static void read_limits(struct uffd *u)
{
	unsigned long max = DEFAULT_MAX_MAPS;
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");

	if (f) {
		if (fscanf(f, "%lu", &max) != 1)
			max = DEFAULT_MAX_MAPS;
		fclose(f);
	}
	u->max_runs = (u32)(max / 2 / MAPS_PER_RUN);
	u->page = page_bytes();
	u->top = uffd_top(u);
}

static int add_tls(struct dl_phdr_info *info, __attribute__((unused)) size_t size, void *bytes)
{
	for (unsigned int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_TLS)
			*(size_t *)bytes += info->dlpi_phdr[i].p_memsz;
	return 0;
}

/* a thread's stack begins with the static TLS of the program: 0.9 MiB with ThreadSanitizer */
static size_t stack_bytes(const struct uffd *u)
{
	size_t bytes = UFFD_STACK_BYTES;

	dl_iterate_phdr(add_tls, &bytes);
	return (bytes + u->page - 1) & -u->page;
}

static int map_memory(struct uffd *u, struct invlock_mm *mm, struct invlock_why *why)
{
	u64 bytes = invlock_feed_bytes(INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS);
	void *feed = map_wiped_on_fork(bytes);

	if (!feed)
		goto no_memory;
	u->stack_bytes = stack_bytes(u);
	u->stack = map_wiped_on_fork(u->stack_bytes);
	if (!u->stack)
		goto unmap_feed;
	if (ranges_init(&u->ranges))
		goto unmap_stack;
	/*
	 * Only our own first page shall be wiped. The libc keeps its list of threads in their
	 * stacks, and a child's libc walks that list.
	 */
	madvise((u8 *)u->stack + u->page, u->stack_bytes - u->page, MADV_KEEPONFORK);
	/* the thread must not wait for memory; a limit on locked memory costs speed alone */
	memset(u->stack, 0, u->stack_bytes);
	mlock(u->stack, u->stack_bytes);
	memset(feed, 0, bytes);
	u->thread = u->stack;
	/* cannot fail: memory and geometry are ours */
	invlock_feed_format(feed, bytes, INVLOCK_NR_WORDS, INVLOCK_NR_EVENTS, INVLOCK_STRIPE_SHIFT);
	invlock_attach(&mm->il, feed, bytes);
	mm->feed_bytes = bytes;
	mm->il.settle = settle;
	mm->il.settle_arg = u;
	u->il = mm->il;
	return 0;

unmap_stack:
	munmap(u->stack, u->stack_bytes);
unmap_feed:
	munmap(feed, bytes);
no_memory:
	return explain(why, -ENOMEM, "cannot map memory for the feed: out of memory, or of "
		       "mappings (vm.max_map_count)");
}

static void unmap_memory(struct uffd *u, struct invlock_mm *mm)
{
	ranges_free(&u->ranges);
	munmap(u->stack, u->stack_bytes);
	munmap(mm->il.feed, mm->feed_bytes);
}

static void *run(void *arg)
{
	struct uffd *u = arg;

	while (uffd_turn(u, true))
		;
	/*
	 * Memory that moved while stop() unregistered all of it may still be watched. Other threads
	 * that change it must not wait any more, nor may this one, whose end gives memory back.
	 */
	if (port_load_acquire(&u->stop))
		own_fd_close(&u->uffd);
	return NULL;
}

static int start_thread(struct uffd *u, struct invlock_why *why)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int err;

	/* Call every function of the thread once, here, where the linker may take its time. */
	port_now();
	mprotect(u->stack, u->page, PROT_READ | PROT_WRITE);
	uffd_probe(u);
	uffd_turn(u, false);

	pthread_attr_init(&attr);
	/* what the thread writes lies on the first pages */
	pthread_attr_setstack(&attr, (u8 *)u->stack + u->page, u->stack_bytes - u->page);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&u->id, &attr, run, u);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (err)
		return explain(why, -err, "cannot start the monitor's thread: %s", strerror(err));
	pthread_setname_np(u->id, "invlock-uffd");
	return 0;
}

static int uffd_open(struct invlock_mm *mm, struct invlock_why *why)
{
	struct uffd *u = calloc(1, sizeof(*u));
	int err;

	if (!u)
		return explain(why, -ENOMEM, "out of memory");
	pthread_mutex_init(&u->lock, NULL);
	u->uffd.fd = u->ear.fd = u->bell.fd = u->pagemap.fd = -1;
	err = open_files(u, why);
	if (err)
		goto free_uffd;
	read_limits(u);
	err = map_memory(u, mm, why);
	if (err)
		goto close_files;
	if (!opened_add(u)) {
		err = explain(why, -EMFILE, "%d userfaultfd monitors are open; close one",
			      MAX_OPEN);
		goto unmap_memory;
	}
	err = start_thread(u, why);
	if (err)
		goto remove_opened;
	mm->data = u;
	return 0;

remove_opened:
	opened_remove(u);
unmap_memory:
	unmap_memory(u, mm);
close_files:
	close_files(u);
free_uffd:
	free(u);
	return err;
}

/*
 * Other threads may still be changing what was watched. Once nothing is registered, the kernel
 * counts no further change. The thread still reads the events of those that it counts already.
 */
static void stop(struct uffd *u)
{
	uffd_unwatch_all(u);
	for (u32 waits = 0; !settle(u); waits++) {
		/* A debugger has killed it: its waiters go on when the descriptor is closed. */
		if (!pthread_tryjoin_np(u->id, NULL))
			return;
		port_wait(waits, false);
	}
	/* release: from here on the descriptor is the thread's, which closes it */
	port_store_release(&u->stop, true);
	/* if the program has closed the bell, the thread looks up by itself */
	for (u32 waits = 0; own_fd_is(&u->bell) && write(u->bell.fd, "", 1) < 0; waits++)
		port_wait(waits, false);
	pthread_join(u->id, NULL);
}

static void uffd_close(struct invlock_mm *mm, bool mine)
{
	struct uffd *u = mm->data;

	if (mine)
		stop(u);
	opened_remove(u);
	close_files(u);
	unmap_memory(u, mm);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

#define EXACT	(INVLOCK_BIT(UNMAP) | INVLOCK_BIT(FIXED) | INVLOCK_BIT(REMAP_FROM) | \
		 INVLOCK_BIT(REMAP_TO) | INVLOCK_BIT(BRK))

/*
 * GUARD and SHM_REMAP are missed as well, and can happen to any memory: a program that opens this
 * monitor has to know that they do not, and says so with INVLOCK_KINDS_UFFD.
 */
#define REFUSED	(INVLOCK_BIT(REMOVE) | INVLOCK_BIT(SHMDT) | INVLOCK_BIT(REORDER) | \
		 INVLOCK_BIT(TRUNCATE) | INVLOCK_BIT(TRUNCATE_PRIVATE))

static int look(const struct invlock_mm *mm, u64 start, u64 end, struct look *ret_look)
{
	(void)mm;
	return look_at_maps(start, end, ret_look);
}

const struct monitor monitor_uffd = {
	.name = "uffd",
	.seen = EXACT | INVLOCK_BIT(DISCARD) | INVLOCK_BIT(FREE) | INVLOCK_BIT(REMOVE) |
		INVLOCK_BIT(URING),
	.exact = EXACT,
	.refused = REFUSED,
	.ready = INVLOCK_KINDS_UFFD,
	.advice = "a program that never makes them sets need to INVLOCK_KINDS_UFFD, in the options "
		  "of the mm and of its caches, and gets uffd where no better monitor works; uffd "
		  "learns of madvise() a moment too late",
	.open = uffd_open,
	.close = uffd_close,
	.look = look,
	.watch = uffd_watch,
	.unwatch = uffd_unwatch,
	.release = uffd_release,
};
