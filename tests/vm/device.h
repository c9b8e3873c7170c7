/* SPDX-License-Identifier: MIT */
/* What the tests in the guest share: calls of the mirror device, and memory to try it on. */
#ifndef INVLOCK_TESTS_VM_DEVICE_H
#define INVLOCK_TESTS_VM_DEVICE_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <invlock/dev.h>

#include "tests/test.h"

#define MIB	(1UL << 20)

/* The tests that are called any_*, too, then run on the mirror whose lock sleeps. */
static inline bool lock_sleeps(void)
{
	return !strncmp(program_invocation_short_name, "any_", 4);
}

static inline int mirror_open(void)
{
	int fd = open(lock_sleeps() ? "/dev/invlock_any" : "/dev/invlock_mirror",
		      O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Return: 0 or -errno, like every function here that makes a request. */
static inline int mirror_range(int fd, const void *addr, size_t len)
{
	struct invlock_mirror_pin range = {
		.size = sizeof(range),
		.addr = (unsigned long)addr,
		.len = len,
	};

	return ioctl(fd, INVLOCK_MIRROR_RANGE, &range) ? -errno : 0;
}

/* A mirror whose lock sleeps sees the whole address space: let it see this range only. */
static inline void mirror_watch(int fd, const void *addr, size_t len)
{
	if (lock_sleeps())
		assert_int_equal(mirror_range(fd, addr, len), 0);
}

static inline int mirror_do(int fd, struct invlock_mirror_access *access)
{
	access->size = sizeof(*access);
	return ioctl(fd, INVLOCK_MIRROR_ACCESS, access) ? -errno : 0;
}

static inline int mirror_read(int fd, const void *addr, void *buffer, size_t len)
{
	struct invlock_mirror_access access = {
		.op = INVLOCK_MIRROR_READ,
		.addr = (unsigned long)addr,
		.len = len,
		.buffer = (unsigned long)buffer,
	};

	return mirror_do(fd, &access);
}

static inline int mirror_write(int fd, void *addr, const void *buffer, size_t len)
{
	struct invlock_mirror_access access = {
		.op = INVLOCK_MIRROR_WRITE,
		.addr = (unsigned long)addr,
		.len = len,
		.buffer = (unsigned long)buffer,
	};

	return mirror_do(fd, &access);
}

static inline struct invlock_mirror_stats mirror_stats(int fd)
{
	struct invlock_mirror_stats stats = { .size = sizeof(stats) };

	assert_int_equal(ioctl(fd, INVLOCK_MIRROR_STATS, &stats), 0);
	return stats;
}

static inline void *map_anon(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* Memory on a boundary of 2 MiB that shares no stripe with other memory. It is never unmapped. */
static inline void *map_aligned(size_t len)
{
	unsigned long p = (unsigned long)map_anon(len + 4 * MIB);

	return (void *)((p + 2 * MIB - 1) & ~(2 * MIB - 1));
}

static inline void *map_fd(int fd, size_t len, int flags)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static inline int make_memfd(size_t len, unsigned int flags)
{
	int fd = memfd_create("test", flags);

	if (fd >= 0)
		assert_int_equal(ftruncate(fd, len), 0);
	return fd;
}

/* A shared mapping of a file, in stripes of its own. */
static inline char *memory_alone(int memfd, size_t len)
{
	char *p = map_aligned(len);
	void *at = mmap(p, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, 0);

	assert_ptr_equal(at, p);
	p[0] = 1;
	return p;
}

static inline char *page_alone(int memfd)
{
	return memory_alone(memfd, PAGE);
}

static inline bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

/*
 * Make the kernel scan for the NUMA node that uses each page, ten times for a second of CPU time.
 * scan_delay_ms must not be too short: newer kernels skip memory that was not used for four delays.
 * Return: false if this kernel has no such scans.
 */
static inline bool set_numa_scans(bool on)
{
	static const char *const settings[][2] = {
		{ "scan_delay_ms", "100" },
		{ "scan_period_min_ms", "1" },
		{ "scan_period_max_ms", "1" },
	};
	char path[80];

	for (unsigned int i = 0; on && i < 3; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/sched/numa_balancing/%s",
			 settings[i][0]);
		if (!write_file(path, settings[i][1]))
			return false;
	}
	return write_file("/proc/sys/kernel/numa_balancing", on ? "1" : "0");
}

/* How long the mirrors hold a fault, by a parameter of invlock_test.ko: delay_us or publish_us. */
static inline void set_mirror_us(const char *parameter, unsigned int us)
{
	char path[64], text[16];

	snprintf(path, sizeof(path), "/sys/module/invlock_test/parameters/%s", parameter);
	snprintf(text, sizeof(text), "%u", us);
	assert_true(write_file(path, text));
}

/* Make every fault of the mirror wait this long between its walk and its commit. */
static inline void set_delay_ms(unsigned int ms)
{
	set_mirror_us("delay_us", ms * 1000);
}

/* Is a fault planted in the loaded module? init says which. */
static inline bool fault_is_planted(void)
{
	const char *fault = getenv("fault");

	return fault && fault[0];
}

/*
 * How many milliseconds something may take that never comes if it was lost. A fault that is planted
 * has lost it: do not wait as long.
 */
#define LOST_MS		(fault_is_planted() ? 5000U : 60000U)

/* Fork a child that dies with this process: after a failed test it would keep the module busy. */
static inline pid_t fork_with_us(void)
{
	pid_t child = fork();

	if (!child)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

/* Run busybox with this command. Unlike fork(), this invalidates nothing. Return: its process. */
static inline pid_t start_busybox(const char *command, const char *argument)
{
	const char *const words[] = { command, argument, NULL };
	posix_spawn_file_actions_t actions;
	pid_t child;

	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	/* it would complain among the results */
	posix_spawn_file_actions_addclose(&actions, STDERR_FILENO);
	assert_int_equal(posix_spawn(&child, "/bin/busybox", &actions, NULL, (char **)words,
				     environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	return child;
}

/* Return: the status of the process, which waitpid() gives, when it has ended. */
static inline int wait_for(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static inline int exit_code_of(pid_t child)
{
	int status = wait_for(child);

	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static inline void sleep_ms(unsigned int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

/* Does this become true, before it counts as lost? */
#define BECOMES(condition)						\
({									\
	unsigned int __ms = 0;						\
									\
	while (!(condition) && __ms++ < LOST_MS)			\
		sleep_ms(1);						\
	__ms <= LOST_MS;						\
})

/* R, S, D and so on: the state of a thread of any process; 0 = it is gone. */
static inline char thread_state(pid_t tid)
{
	char path[32], stat[256] = "";
	const char *end;
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, stat, sizeof(stat) - 1);
		close(fd);
	}
	stat[n > 0 ? n : 0] = '\0';
	end = strrchr(stat, ')');
	return end ? end[2] : 0;
}

/* Wait until a thread waits in the kernel, and not only for a moment. Return: it does. */
static inline bool becomes_blocked(pid_t tid)
{
	char state = 'R';

	for (int looks = 0; looks < 3; looks = state == 'D' ? looks + 1 : 0) {
		sleep_ms(5);
		state = thread_state(tid);
		/* it has ended */
		if (!state || state == 'Z' || state == 'X')
			return false;
	}
	return true;
}

#endif /* INVLOCK_TESTS_VM_DEVICE_H */
