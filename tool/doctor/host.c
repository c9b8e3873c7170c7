// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor.h"
#include "lib/capability.h"

/* older headers than Linux 6.7 lack this */
#define FEATURE_WP_ASYNC	(1ULL << 15)

static long read_number(const char *path)
{
	FILE *f = fopen(path, "re");
	long number;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &number) != 1)
		number = -1;
	fclose(f);
	return number;
}

static long count_lines(const char *path)
{
	FILE *f = fopen(path, "re");
	long nr = 0;
	int c;

	if (!f)
		return -1;
	while ((c = getc(f)) != EOF)
		nr += c == '\n';
	fclose(f);
	return nr;
}

static int check_uring(void)
{
	struct io_uring_params params = {};
	int fd = syscall(SYS_io_uring_setup, 1, &params);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int check_uffd(bool *ret_async)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURE_WP_ASYNC };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0)
		return errno;
	*ret_async = !ioctl(fd, UFFDIO_API, &api);
	close(fd);
	return 0;
}

void probe_host(struct host *host)
{
	struct rlimit memlock = {};

	uname(&host->kernel);
	getrlimit(RLIMIT_MEMLOCK, &memlock);
	host->memlock = memlock.rlim_cur;
	host->memlock_most = memlock.rlim_max;
	host->max_map_count = read_number("/proc/sys/vm/max_map_count");
	host->mappings = count_lines("/proc/self/maps");
	host->user_namespace = in_user_namespace();
	host->cap_bpf = has_capability(CAP_BPF);
	host->cap_perfmon = has_capability(CAP_PERFMON);
	host->cap_ipc_lock = has_capability(CAP_IPC_LOCK);
	host->uring_disabled = read_number("/proc/sys/kernel/io_uring_disabled");
	host->uring_error = check_uring();
	host->uffd_error = check_uffd(&host->uffd_async);
	host->btf = !access("/sys/kernel/btf/vmlinux", R_OK);
}
