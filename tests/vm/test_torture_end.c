// SPDX-License-Identifier: MIT
/*
 * In the middle of storms, a process exits, execs, is killed or closes the device, and the module
 * is unloaded at the moment when no process has a device open. Every addition that the device has
 * made to shared memory until then must be there.
 */
#include "torture.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/port.h"

static struct torture_results *results;
static int memfd;

/* How the process ends. The process calls one of these while the storms go on. */
static void by_exit(void)
{
	_exit(0);
}

static void by_exec(void)
{
	execl("/bin/busybox", "true", NULL);
	_exit(99);
}

static void by_closing(void)
{
	port_store(&torture.closed, true);
	close(torture.fd);
	sleep_ms(20);
	_exit(0);
}

static void by_waiting_to_be_killed(void)
{
	for (;;)
		pause();
}

static void *storms(void *arg)
{
	torture_run(torture_storms, nr_torture_storms, 3600);
	return arg;
}

static void live_and_end(void (*end)(void), unsigned int ms, int out)
{
	pthread_t thread;

	if (!torture_map(results, memfd))
		_exit(98);
	torture.fd = mirror_open();
	if (pthread_create(&thread, NULL, storms, NULL))
		_exit(97);
	while (!torture_has_met())
		sleep_ms(1);
	if (write(out, "", 1) != 1)
		_exit(95);
	sleep_ms(ms);
	end();
	_exit(96);
}

/* Start a process with storms. Return: the process, once it has lost translations. */
static pid_t begin_life(void (*end)(void), unsigned int ms)
{
	int pipefd[2];
	pid_t child;
	char byte;

	memset(results, 0, sizeof(*results));
	memfd = make_memfd(REGION, MFD_CLOEXEC);
	set_mirror_us("delay_us", 500);
	assert_int_equal(pipe(pipefd), 0);
	child = fork_with_us();
	if (!child)
		live_and_end(end, ms, pipefd[1]);
	close(pipefd[1]);
	assert_int_equal(read(pipefd[0], &byte, 1), 1);
	close(pipefd[0]);
	return child;
}

/* Unload a module as soon as the last file is closed. */
static void unload(const char *name)
{
	while (syscall(SYS_delete_module, name, O_NONBLOCK)) {
		assert_int_equal(errno, EAGAIN);
		sched_yield();
	}
}

/* Unload both modules, and load them again. */
static void reload_modules(void)
{
	char command[128];

	unload("invlock_test");
	unload("invlock");
	/* init names the files of the modules that were loaded for this test */
	snprintf(command, sizeof(command), "insmod %s && insmod %s", getenv("module"),
		 getenv("mirrors"));
	assert_int_equal(system(command), 0);
}

/* Return: the status of the process */
static int judge(pid_t child)
{
	int status;
	uint64_t lost, stale = 0, wrong = 0;

	reload_modules();
	status = wait_for(child);
	torture.results = results;
	torture.shared = map_fd(memfd, REGION, MAP_SHARED);
	/* the cells in private memory are gone with the process */
	lost = torture_lost(1, 2, NR_ADDERS);
	for (unsigned int who = 0; who < NR_ADDERS; who++) {
		stale += results->stale[who];
		wrong += results->wrong[who];
	}
	munmap(torture.shared, REGION);
	close(memfd);
	assert_int_equal(lost, 0);
	assert_int_equal(stale, 0);
	assert_int_equal(wrong, 0);
	return status;
}

static int setup(void **state)
{
	(void)state;
	results = mmap(NULL, sizeof(*results), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	return results == MAP_FAILED;
}

static int teardown(void **state)
{
	(void)state;
	munmap(results, sizeof(*results));
	/* switch off what the storms switched on */
	for (unsigned int i = 0; i < nr_torture_storms; i++)
		if (torture_storms[i].calm)
			torture_storms[i].calm();
	return 0;
}

TEST(nothing_is_lost_when_a_process_exits_in_the_storms)
{
	for (unsigned int ms = 0; ms < 30; ms += 10)
		assert_int_equal(judge(begin_life(by_exit, ms)), 0);
}

TEST(nothing_is_lost_when_a_process_execs_in_the_storms)
{
	for (unsigned int ms = 0; ms < 30; ms += 10)
		assert_int_equal(judge(begin_life(by_exec, ms)), 0);
}

TEST(nothing_is_lost_when_a_process_closes_the_device_in_the_storms)
{
	for (unsigned int ms = 0; ms < 30; ms += 10)
		assert_int_equal(judge(begin_life(by_closing, ms)), 0);
}

TEST(nothing_is_lost_when_a_process_is_killed_in_the_storms)
{
	for (unsigned int ms = 0; ms < 30; ms += 10) {
		pid_t child = begin_life(by_waiting_to_be_killed, 0);

		sleep_ms(ms);
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(WTERMSIG(judge(child)), SIGKILL);
	}
}

TEST(nothing_is_lost_when_a_process_is_killed_and_reaped_in_the_storms)
{
	for (unsigned int ms = 0; ms < 30; ms += 10) {
		pid_t child = begin_life(by_waiting_to_be_killed, 0);
		int pidfd = syscall(SYS_pidfd_open, child, 0);

		sleep_ms(ms);
		assert_int_equal(kill(child, SIGKILL), 0);
		/* it may come too late here; test_kinds_kernel.c tests that it can be in time */
		if (syscall(SYS_process_mrelease, pidfd, 0U) && errno == ENOSYS)
			print_message("# this kernel has no process_mrelease()\n");
		close(pidfd);
		assert_int_equal(WTERMSIG(judge(child)), SIGKILL);
	}
}

TEST_MAIN(.setup = setup, .teardown = teardown)
