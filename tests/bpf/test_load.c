// SPDX-License-Identifier: MIT
/* The programs are loaded: by one process of many, and only where there is memory for it. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/monitor/bpf/memory.h"
#include "lib/monitor/bpf/progset.h"
#include "lib/monitor/bpf/turn.h"
#include "rig.h"

#define NR_AT_ONCE	5
#define MIB		(1ULL << 20)
#define NO_TURN		77
#define NOT_OPENED	78

/* ---- processes that start at once ---- */

/* In a child: opens when the pipe says so. Its exit status is how many sets it has loaded. */
static int open_at(int go, int ready, int stay)
{
	struct invlock_mm mm = { .monitor = &monitor_bpf };
	char c;

	/* one that may not take turns cannot be told from one that does not */
	if (access("/proc/vmallocinfo", R_OK))
		_exit(NO_TURN);
	if (read(go, &c, 1) < 0 || monitor_bpf.open(&mm, NULL))
		_exit(NOT_OPENED);
	/* the set is there as long as one of us is */
	if (write(ready, "r", 1) != 1 || read(stay, &c, 1) < 0)
		_exit(NOT_OPENED);
	_exit((int)set_nr_loaded);
}

TEST(of_processes_that_open_at_once_one_loads_the_programs)
{
	int go[2], ready[2], stay[2], nr_loaded = 0, status;
	struct invlock_mm mm;
	pid_t pids[NR_AT_ONCE];
	char c;

	/* may this host load them at all? */
	monitor_open(&mm);
	monitor_close(&mm);
	/* nobody else's set is joined */
	monitor_bpf_options.family = (u64)getpid() << 32 | 0x10ad;
	/* an emulated machine that is busy takes minutes to load one */
	monitor_bpf_options.turn_ns = ~0ULL;
	set_nr_loaded = 0;
	assert_true(!pipe2(go, O_CLOEXEC) && !pipe2(ready, O_CLOEXEC) && !pipe2(stay, O_CLOEXEC));
	for (int i = 0; i < NR_AT_ONCE; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (!pids[i]) {
			close(go[1]);
			close(stay[1]);
			close(ready[0]);
			open_at(go[0], ready[1], stay[0]);
		}
	}
	close(go[1]);
	close(ready[1]);
	/* all are there, or have ended without a word */
	for (int i = 0; i < NR_AT_ONCE && read(ready[0], &c, 1) == 1; i++)
		;
	close(stay[1]);
	for (int i = 0; i < NR_AT_ONCE; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == NO_TURN)
			TEST_SKIP("/proc/vmallocinfo cannot be opened here");
		nr_loaded += WEXITSTATUS(status);
	}
	assert_int_equal(nr_loaded, 1);
	close(go[0]);
	close(ready[0]);
	close(stay[0]);
	monitor_bpf_options.family = monitor_bpf_options.turn_ns = 0;
}

TEST(a_turn_is_one_processs_until_it_ends_it_or_dies)
{
	int turn = turn_take(0), status;
	pid_t pid;

	if (turn < 0)
		TEST_SKIP("/proc/vmallocinfo cannot be locked here");
	assert_int_equal(turn_take(0), -1);
	/* a forked child holds it no longer than we do */
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	turn_end(turn);
	/* another process may take a turn at any time, and gives it back */
	turn = turn_take(TURN_WAIT_NS);
	assert_true(turn >= 0);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	turn_end(turn);
	/* and one that dies in its turn gives it back */
	pid = fork();
	if (!pid)
		_exit(turn_take(TURN_WAIT_NS) < 0);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	turn = turn_take(TURN_WAIT_NS);
	assert_true(turn >= 0);
	turn_end(turn);
}

/* ---- memory ---- */

static char root[] = "/tmp/invlock-cgroup-XXXXXX";

static void put_file(const char *directory, const char *name, const char *text)
{
	char command[300], path[300];
	int fd;

	snprintf(command, sizeof(command), "mkdir -p %s%s", root, directory);
	assert_int_equal(system(command), 0);
	snprintf(path, sizeof(path), "%s%s/%s", root, directory, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static u64 left_with(const char *list)
{
	char path[300];

	put_file("", "list", list);
	snprintf(path, sizeof(path), "%s/list", root);
	return memory_left_in(root, path);
}

static void remove_root(void)
{
	char command[300];

	snprintf(command, sizeof(command), "rm -rf %s", root);
	assert_int_equal(system(command), 0);
	strcpy(root + strlen(root) - 6, "XXXXXX");
}

TEST(what_a_memory_cgroup_has_left_is_the_least_of_all_above_it)
{
	assert_non_null(mkdtemp(root));
	put_file("/a/b", "memory.max", "16777216\n");
	put_file("/a/b", "memory.current", "8388608\n");
	assert_int_equal(left_with("0::/a/b\n"), 8 * MIB);
	put_file("/a", "memory.max", "max\n");
	put_file("/a", "memory.current", "1\n");
	assert_int_equal(left_with("0::/a/b\n"), 8 * MIB);
	put_file("/a", "memory.max", "104857600\n");
	put_file("/a", "memory.current", "103809024\n");
	assert_int_equal(left_with("0::/a/b\n"), MIB);
	/* what the page cache holds can be had */
	put_file("/a", "memory.stat", "anon 5\ninactive_file 1048576\nactive_file 2097152\n");
	assert_int_equal(left_with("0::/a/b\n"), 4 * MIB);
	/* more is used than there may be */
	put_file("/a/b", "memory.current", "16777217\n");
	assert_int_equal(left_with("0::/a/b\n"), 0);
	remove_root();
}

TEST(memory_cgroups_of_version_1_are_found_beside_version_2)
{
	const char list[] = "9:name=systemd:/\n5:cpu,memory,devices:/x/y\n0::/\n";

	assert_non_null(mkdtemp(root));
	assert_true(left_with(list) == ~0ULL);
	put_file("/memory/x", "memory.limit_in_bytes", "9223372036854771712\n");
	put_file("/memory/x", "memory.usage_in_bytes", "4096\n");
	assert_true(left_with(list) == ~0ULL);
	put_file("/memory/x/y", "memory.limit_in_bytes", "12582912\n");
	put_file("/memory/x/y", "memory.usage_in_bytes", "4194304\n");
	put_file("/memory/x/y", "memory.stat", "cache 1\ntotal_inactive_file 1048576\n");
	assert_int_equal(left_with(list), 9 * MIB);
	remove_root();
}

/* in a container the list may name what lies outside of it */
TEST(a_cgroup_that_cannot_be_seen_is_looked_for_at_the_top)
{
	assert_non_null(mkdtemp(root));
	put_file("", "memory.max", "8388608\n");
	put_file("", "memory.current", "4194304\n");
	assert_int_equal(left_with("0::/../../other\n"), 4 * MIB);
	assert_int_equal(left_with("0::/docker/1234\n"), 4 * MIB);
	assert_int_equal(left_with("0::/\n"), 4 * MIB);
	/* a list that is none */
	assert_true(left_with("nonsense\n\n") == ~0ULL);
	remove_root();
}

/* ---- and the kernel's own ---- */

static bool write_to(const char *directory, const char *name, const char *text)
{
	char path[300];
	bool written;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return written;
}

/* Return: a cgroup with that limit, of either version; false = not here */
static bool make_cgroup(char *directory, size_t size, const char *max)
{
	static const char *const places[][2] = {
		{ "/sys/fs/cgroup/memory", "memory.limit_in_bytes" },
		{ "/sys/fs/cgroup", "memory.max" },
	};

	for (int i = 0; i < 2; i++) {
		snprintf(directory, size, "%s/invlock-test-%d", places[i][0], getpid());
		if (mkdir(directory, 0700))
			continue;
		if (write_to(directory, places[i][1], max))
			return true;
		rmdir(directory);
	}
	return false;
}

TEST(in_a_container_that_is_too_small_the_monitor_says_so_and_is_not_killed)
{
	struct invlock_mm mm;
	char directory[100];
	int status;
	pid_t pid;

	monitor_open(&mm);
	monitor_close(&mm);
	if (!make_cgroup(directory, sizeof(directory), "12582912"))
		TEST_SKIP("no memory cgroup can be made here");
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct invlock_why why = { "" };
		int err;

		mm = (struct invlock_mm){ .monitor = &monitor_bpf };
		if (!write_to(directory, "cgroup.procs", "0"))
			_exit(2);
		monitor_bpf_options.family = (u64)getpid() << 32 | 0x3e3;
		err = monitor_bpf.open(&mm, &why);
		_exit(err == -ENOMEM && strstr(why.text, "memory.max") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(rmdir(directory), 0);
	assert_int_equal(status, 0);
}

TEST_MAIN()
