// SPDX-License-Identifier: MIT
/* Changes that another task makes, or that are made by an unusual kind of system call. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "changes.h"
#include "core/port_raw.h"
#include "lib/page.h"
#include "lib/selftest/trial.h"

static pid_t wait_for(pid_t pid, int *ret_status)
{
	pid_t got;

	do
		got = waitpid(pid, ret_status, __WALL);
	while (got < 0 && errno == EINTR);
	return got;
}

int other_start(struct other_process *o, int (*act)(void *arg), void *arg)
{
	int go[2], err;
	char word;

	if (pipe2(go, O_CLOEXEC))
		return -1;
	o->pid = fork();
	if (!o->pid) {
		close(go[1]);
		if (read(go[0], &word, 1) != 1)
			_exit(0);
		_exit(act(arg) ? errno : 0);
	}
	err = errno;
	close(go[0]);
	o->go = go[1];
	if (o->pid < 0) {
		close(go[1]);
		errno = err;
		return -1;
	}
	return 0;
}

int other_act(struct other_process *o)
{
	ssize_t told = write(o->go, "g", 1);
	int status;
	pid_t pid;

	close(o->go);
	pid = wait_for(o->pid, &status);
	o->pid = 0;
	if (pid < 0)
		return -1;
	if (told != 1 || !WIFEXITED(status)) {
		errno = ECHILD;
		return -1;
	}
	errno = WEXITSTATUS(status);
	return errno ? -1 : 0;
}

void other_end(struct other_process *o)
{
	int status;

	if (!o->pid)
		return;
	close(o->go);
	wait_for(o->pid, &status);
}

static int unmap_by_child(void *addr, size_t len, int flags)
{
	struct raw_order order = { addr, len, -ECHILD };
	size_t stack_len = 16 * page_bytes();
	u8 *stack = mmap(NULL, stack_len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	int status, err;
	long child;

	if (stack == MAP_FAILED)
		return -1;
	child = raw_clone_munmap(CLONE_VM | flags | SIGCHLD, stack + stack_len, &order);
	if (child < 0)
		err = -child;
	else
		err = wait_for(child, &status) < 0 ? errno : -order.err;
	munmap(stack, stack_len);
	errno = err;
	return err ? -1 : 0;
}

static int unmap_by_clone_vm(void *addr, size_t len)
{
	return unmap_by_child(addr, len, 0);
}

static int unmap_by_vfork(void *addr, size_t len)
{
	return unmap_by_child(addr, len, CLONE_VFORK);
}

static int check_int80(void *arg)
{
	(void)arg;
	/* if this kernel answers with a signal, die without the message of a signal handler */
	signal(SIGSEGV, SIG_DFL);
	return raw_i386(I386_GETPID, 0, 0, 0, 0, 0, 0) > 0 ? 0 : -1;
}

static void unmap_by_int80(struct trial *t)
{
	struct other_process probe;
	int err = -1;
	u8 *p;

	if (!RAW_HAS_I386) {
		trial_unknown(t, "only x86-64 has this kind of system call");
		return;
	}
	if (other_start(&probe, check_int80, NULL) || other_act(&probe)) {
		trial_unknown(t, "this kernel accepts no 32-bit system calls");
		return;
	}
	p = trial_map(t, MAP_PRIVATE | MAP_ANONYMOUS | RAW_MAP_LOW, -1);
	if (!p)
		return;
	if (trial_begin(t, p, t->len)) {
		err = raw_i386(I386_MUNMAP, (long)p, t->len, 0, 0, 0, 0);
		errno = -err;
		trial_end(t, err ? -1 : 0);
	}
	if (err)
		munmap(p, t->len);
}

/* older headers than Linux 6.8 lack this */
#define FEATURE_MOVE	(1ULL << 16)

struct move {
	u64 dst;
	u64 src;
	u64 len;
	u64 mode;
	__s64 moved;
};

static int open_uffd_for_move(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURE_MOVE };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY), err;

	if (fd < 0 || !ioctl(fd, UFFDIO_API, &api))
		return fd;
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

/* Return: an empty range that is registered with the userfaultfd, which a move needs; or NULL. */
static u8 *map_destination(struct trial *t, int uffd)
{
	u8 *p = mmap(NULL, t->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register reg = {
		.range = { .start = (unsigned long)p, .len = t->len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (p != MAP_FAILED && !ioctl(uffd, UFFDIO_REGISTER, &reg))
		return p;
	trial_unknown(t, "cannot make a range to move to: %s", strerror(errno));
	if (p != MAP_FAILED)
		munmap(p, t->len);
	return NULL;
}

static void move_pages_away(struct trial *t)
{
	struct move move = { .len = t->len };
	u8 *from, *to;
	int uffd = open_uffd_for_move();

	if (uffd < 0) {
		trial_unknown(t, "cannot open a userfaultfd that can move pages: %s",
			      strerror(errno));
		return;
	}
	to = map_destination(t, uffd);
	if (!to)
		goto close_uffd;
	from = trial_map(t, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!from)
		goto unmap_to;
	move.dst = (unsigned long)to;
	move.src = (unsigned long)from;
	if (trial_begin(t, from, t->len))
		trial_end(t, ioctl(uffd, _IOWR(UFFDIO, 0x05, struct move), &move));
	munmap(from, t->len);
unmap_to:
	munmap(to, t->len);
close_uffd:
	close(uffd);
}

const struct map_change process_changes[] = {
	{ "munmap (int 0x80)", INVLOCK_KIND_UNMAP, unmap_by_int80 },
	{ "munmap (CLONE_VM child)", INVLOCK_KIND_UNMAP, trial_unmapped, unmap_by_clone_vm },
	{ "munmap (vfork child)", INVLOCK_KIND_UNMAP, trial_unmapped, unmap_by_vfork },
	{ "UFFDIO_MOVE", INVLOCK_KIND_MOVE, move_pages_away },
	{ NULL }
};
