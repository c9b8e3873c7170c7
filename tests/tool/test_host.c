// SPDX-License-Identifier: MIT
/* What doctor says of the limits of a host, which this test makes up. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"
#include "tool/doctor/doctor.h"
#include "tool/tool.h"

#define KIB	1024ULL

static struct host made_up;

void probe_host(struct host *host)
{
	*host = made_up;
}

static struct rdma made_up_rdma;

void probe_rdma(struct rdma *rdma, const struct rdma_places *where)
{
	(void)where;
	*rdma = made_up_rdma;
}

void probe_monitor(struct finding *f, unsigned int nr_changes)
{
	(void)nr_changes;
	f->err = explain(&f->why, -ENOENT, "it is not tried");
}

/* Fails unless doctor says this of the host. */
static void says(const struct host *host, const char *expected)
{
	char *argv[] = { "invlock doctor", NULL };
	static char text[1 << 16];
	int fd = memfd_create("out", 0), status;
	pid_t pid;

	made_up = *host;
	assert_true(fd >= 0);
	pid = fork();
	if (!pid) {
		dup2(fd, STDOUT_FILENO);
		_exit(cmd_doctor(1, argv));
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	memset(text, 0, sizeof(text));
	assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
	close(fd);
	if (!strstr(text, expected))
		fail_msg("not said: \"%s\" in %s", expected, text);
	if (strstr(text, "-1") || strstr(text, "18446744073709551615"))
		fail_msg("a number that is none: %s", text);
}

TEST(no_limit_is_called_unlimited)
{
	const struct host host = { .memlock = RLIM_INFINITY, .memlock_most = RLIM_INFINITY };

	says(&host, "  memlock       unlimited\n");
}

TEST(a_limit_that_the_user_may_raise_has_the_line_to_type)
{
	struct host host = { .memlock = 64 * KIB, .memlock_most = 8192 * KIB };

	says(&host, "may register 64 KiB, or 8192 KiB after `ulimit -l 8192`\n");
	host.memlock_most = RLIM_INFINITY;
	says(&host, "or as much as it likes after `ulimit -l unlimited`\n");
}

TEST(a_limit_that_the_user_may_not_raise_is_for_root)
{
	const struct host host = { .memlock = 64 * KIB, .memlock_most = 64 * KIB };

	says(&host, "may register 64 KiB. Only root can raise this limit\n");
}

TEST(a_capability_lifts_the_limit)
{
	const struct host host = { .memlock = 64 * KIB, .memlock_most = 64 * KIB,
				   .cap_ipc_lock = true };

	says(&host, "64 KiB, and CAP_IPC_LOCK lifts this limit\n");
}

TEST(what_is_unknown_is_called_so)
{
	const struct host host = { .mappings = -1, .max_map_count = -1, .uring_disabled = -1 };

	says(&host, "an unknown number in this process; how many there may be is unknown\n");
	says(&host, "  io_uring      usable\n");
}

TEST(a_machine_without_rdma_gets_one_line)
{
	const struct host host = {};

	made_up_rdma = (struct rdma){};
	says(&host, "  RDMA          no device, and neither libfabric nor UCX\n");
	made_up_rdma.ucx.found = true;
	says(&host, "\nRDMA\n  devices       none. If");
	says(&host, "\n  libfabric     not found by the dynamic linker\n  UCX           of unk");
}

TEST_MAIN()
