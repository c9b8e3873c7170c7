// SPDX-License-Identifier: MIT
#include "odp.h"

#include <errno.h>
#include <fcntl.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE	1024	/* no page is smaller */

static void check(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	_exit(3);
}

static int counter_open(const char *counter, int flags)
{
	char path[100];
	int fd;

	snprintf(path, sizeof(path), "/sys/module/ib_core/parameters/%s", counter);
	fd = open(path, flags | O_CLOEXEC);
	check(fd >= 0, path);
	return fd;
}

/* no stdio: its malloc() may want the mmap lock for writing, which a walk that is held keeps */
long walk_get(const char *counter)
{
	int fd = counter_open(counter, O_RDONLY);
	char text[30] = "";

	check(read(fd, text, sizeof(text) - 1) > 0, counter);
	close(fd);
	return atol(text);
}

void walk_set(const char *counter, long value)
{
	int fd = counter_open(counter, O_WRONLY);
	char text[30];
	int len = snprintf(text, sizeof(text), "%ld", value);

	check(write(fd, text, len) == len, counter);
	close(fd);
}

static void map(struct odp_memory *m, int flags)
{
	void *at;

	flags |= m->file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	at = mmap(m->at, ODP_LEN, PROT_READ | PROT_WRITE, flags, m->file, 0);
	check(at != MAP_FAILED, "mmap");
	m->at = at;
}

void odp_memory_open(struct odp_memory *m, bool shared)
{
	*m = (struct odp_memory){ .file = -1 };
	if (shared) {
		m->file = memfd_create("odp", MFD_CLOEXEC);
		check(m->file >= 0 && !ftruncate(m->file, ODP_LEN), "memfd");
	}
	map(m, 0);
}

void odp_kill(pid_t child)
{
	check(!kill(child, SIGKILL) && waitpid(child, NULL, 0) == child, "kill");
}

void odp_memory_close(struct odp_memory *m)
{
	if (m->child)
		odp_kill(m->child);
	check(!munmap(m->at, ODP_LEN), "munmap");
	if (m->file >= 0)
		close(m->file);
}

void odp_memory_fill(struct odp_memory *m, enum odp_change change)
{
	memset(m->at, 0xaa, ODP_LEN);
	if (change != ODP_COPY || m->child)
		return;
	m->child = fork();
	check(m->child >= 0, "fork");
	if (!m->child)
		for (;;)
			pause();
}

static void move_onto(struct odp_memory *m)
{
	char *other = mmap(NULL, ODP_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);

	check(other != MAP_FAILED, "mmap");
	memset(other, 0xee, ODP_LEN);
	check(mremap(other, ODP_LEN, ODP_LEN, MREMAP_MAYMOVE | MREMAP_FIXED, m->at) == m->at,
	      "mremap");
}

void odp_tear(struct odp_memory *m, enum odp_change change)
{
	if (m->file >= 0) {
		check(!fallocate(m->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, ODP_LEN),
		      "fallocate");
		return;
	}
	switch (change) {
	case ODP_DISCARD:
		check(!madvise(m->at, ODP_LEN, MADV_DONTNEED), "madvise");
		break;
	case ODP_COPY:
		if (!m->child)
			odp_memory_fill(m, change);
		for (char *at = m->at; at < m->at + ODP_LEN; at += PIECE)
			*(volatile char *)at = 0xbb;
		odp_kill(m->child);
		m->child = 0;
		break;
	case ODP_UNMAP:
		check(!munmap(m->at, ODP_LEN), "munmap");
		map(m, MAP_FIXED_NOREPLACE);
		break;
	case ODP_MAP_OVER:
		map(m, MAP_FIXED);
		break;
	case ODP_MOVE_ONTO:
		move_onto(m);
		break;
	default:
		check(false, "no such change");
	}
}

pid_t odp_punch_held(const struct odp_memory *m, long held)
{
	struct odp_memory memory = *m;
	pid_t child = fork();

	check(child >= 0, "fork");
	if (child)
		return child;
	/* this process's own mapping would only slow it down */
	munmap(m->at, ODP_LEN);
	for (;;) {
		if (walk_get("held") == held) {
			usleep(100);
			continue;
		}
		odp_tear(&memory, ODP_DISCARD);
		held++;
	}
}

/* by a call of our own: this libibverbs knows no such call for Soft RoCE */
int odp_prefetch(struct loop *loop, const struct ibv_mr *mr)
{
	struct ib_uverbs_sge piece = { (uintptr_t)mr->addr, mr->length, mr->lkey };
	struct {
		struct ib_uverbs_ioctl_hdr header;
		struct ib_uverbs_attr attrs[4];
	} call = {
		.header = {
			.length = sizeof(call),
			.object_id = UVERBS_OBJECT_MR,
			.method_id = UVERBS_METHOD_ADVISE_MR,
			.num_attrs = 4,
			.driver_id = RDMA_DRIVER_RXE,
		},
		.attrs = {
			{ UVERBS_ATTR_ADVISE_MR_PD_HANDLE, .flags = UVERBS_ATTR_F_MANDATORY,
			  .data = loop->pd->handle },
			{ UVERBS_ATTR_ADVISE_MR_ADVICE, 8, UVERBS_ATTR_F_MANDATORY,
			  .data = IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE },
			{ UVERBS_ATTR_ADVISE_MR_FLAGS, 4, UVERBS_ATTR_F_MANDATORY,
			  .data = IB_UVERBS_ADVISE_MR_FLAG_FLUSH },
			{ UVERBS_ATTR_ADVISE_MR_SGE_LIST, sizeof(piece), UVERBS_ATTR_F_MANDATORY,
			  .data = (uintptr_t)&piece },
		},
	};

	return ioctl(loop->context->cmd_fd, RDMA_VERBS_IOCTL, &call) ? -errno : 0;
}
