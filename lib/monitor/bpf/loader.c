// SPDX-License-Identifier: MIT
#include "loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "iter.h"
#include "loader.skel.h"

int loader_open_event(void)
{
	/* An event that never happens. */
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = PERF_ATTR_SIZE_VER0,
		.config = PERF_COUNT_SW_DUMMY,
		.disabled = 1,
		.exclude_kernel = 1,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, -1, sched_getcpu(), -1,
			      PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

struct bpf_link *loader_attach(const struct bpf_program *prog, int event)
{
	struct bpf_link *link = bpf_program__attach_perf_event(prog, event);
	int err = errno;

	if (!link)
		close(event);
	errno = err;
	return link;
}

static int read_loaders(int iter, struct loaders *ret)
{
	size_t bytes = 0, room = sizeof(ret->program);
	ssize_t got;

	do {
		got = read(iter, (char *)ret->program + bytes, room - bytes);
		if (got > 0)
			bytes += got;
	} while ((got > 0 && bytes < room) || (got < 0 && (errno == EINTR || errno == EAGAIN)));
	ret->nr = bytes / sizeof(*ret->program);
	return got < 0 ? -errno : 0;
}

/* What libbpf says is for the program's user to see, but not why no set is joined. */
static __thread bool quiet;
static libbpf_print_fn_t print_before;

__attribute__((format(printf, 2, 0)))
static int print_unless_quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return quiet || !print_before ? 0 : print_before(level, format, args);
}

static struct loader_bpf *load_quietly(void)
{
	struct loader_bpf *skel;

	quiet = true;
	print_before = libbpf_set_print(print_unless_quiet);
	skel = loader_bpf__open_and_load();
	libbpf_set_print(print_before);
	quiet = false;
	return skel;
}

int loaders_find(struct loaders *ret_loaders)
{
	struct loader_bpf *skel = load_quietly();
	int err, iter;

	ret_loaders->nr = 0;
	if (!skel)
		return -errno;
	err = iter = iter_open(bpf_program__fd(skel->progs.find_loaders), NULL);
	if (iter >= 0) {
		err = read_loaders(iter, ret_loaders);
		close(iter);
	}
	loader_bpf__destroy(skel);
	return err;
}

bool loaders_have(const struct loaders *loaders, u32 program)
{
	for (unsigned int i = 0; i < loaders->nr; i++)
		if (loaders->program[i] == program)
			return true;
	return false;
}
