// SPDX-License-Identifier: MIT
/* Processes exit, exec, are killed or close the device, some of them in the middle of a fault. */
#include "device.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static int setup(void **state)
{
	(void)state;
	set_delay_ms(100);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	set_delay_ms(0);
	return 0;
}

static unsigned int nr_reading;	/* threads; atomic */

static void *read_for_ever(void *arg)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char byte;

	__atomic_fetch_add(&nr_reading, 1, __ATOMIC_RELAXED);
	for (;;) {
		*p = 1;
		mirror_read(*(int *)arg, p, &byte, 1);
		madvise(p, PAGE, MADV_DONTNEED);
	}
	return NULL;
}

/* Start a process that faults on two threads and then ends by @how. Return: its exit status. */
static int die_in_a_fault(void (*how)(int fd))
{
	pid_t child = fork_with_us();
	pthread_t threads[2];
	int fd;

	if (!child) {
		fd = open("/dev/invlock_mirror", O_RDWR);
		for (unsigned int i = 0; i < 2; i++)
			if (fd < 0 || pthread_create(&threads[i], NULL, read_for_ever, &fd))
				_exit(99);
		while (__atomic_load_n(&nr_reading, __ATOMIC_RELAXED) < 2)
			sleep_ms(1);
		/* by then each is in one of its faults, which take nearly all of its time */
		sleep_ms(150);
		how(fd);
	}
	return wait_for(child);
}

static void by_exit(int fd)
{
	(void)fd;
	_exit(7);
}

static void by_kill(int fd)
{
	(void)fd;
	kill(getpid(), SIGKILL);
}

static void by_close_and_exit(int fd)
{
	/* the requests of the threads still hold a reference to the file */
	close(fd);
	sleep_ms(50);
	_exit(8);
}

static void by_exec(int fd)
{
	(void)fd;
	execl("/bin/busybox", "true", NULL);
	_exit(99);
}

TEST(a_process_may_exit_in_the_middle_of_a_fault)
{
	assert_int_equal(WEXITSTATUS(die_in_a_fault(by_exit)), 7);
}

TEST(a_process_may_be_killed_in_the_middle_of_a_fault)
{
	assert_int_equal(WTERMSIG(die_in_a_fault(by_kill)), SIGKILL);
}

TEST(a_device_may_be_closed_in_the_middle_of_a_fault)
{
	assert_int_equal(WEXITSTATUS(die_in_a_fault(by_close_and_exit)), 8);
}

TEST(a_process_may_exec_in_the_middle_of_a_fault)
{
	assert_int_equal(die_in_a_fault(by_exec), 0);
}

/* Is the module on its way out? */
static bool module_goes(const char *module)
{
	char path[64], state[16] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/module/%s/initstate", module);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	if (read(fd, state, sizeof(state) - 1) < 0)
		state[0] = '\0';
	close(fd);
	return !strncmp(state, "going", 5);
}

/* rmmod must fail. If it does not, the module waits for the file to be closed: load it again. */
static void expect_that_it_stays(const char *device, const char *module, const char *file)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC), status;
	pid_t child = start_busybox("rmmod", module);

	while (!waitpid(child, &status, WNOHANG) && !module_goes(module))
		sleep_ms(1);
	if (module_goes(module)) {
		close(fd);
		wait_for(child);
		wait_for(start_busybox("insmod", file));
		fail_msg("%s was unloaded while a file was open", module);
	}
	assert_int_not_equal(status, 0);
	close(fd);
}

TEST(a_module_stays_while_it_is_in_use)
{
	expect_that_it_stays("/dev/invlock_mirror", "invlock_test", getenv("mirrors"));
	expect_that_it_stays("/dev/invlock_any", "invlock_test", getenv("mirrors"));
	expect_that_it_stays("/dev/invlock_interval", "invlock_test", getenv("mirrors"));
	assert_int_equal(wait_for(start_busybox("rmmod", "invlock_test")), 0);
	expect_that_it_stays("/dev/invlock", "invlock", getenv("module"));
	assert_int_equal(wait_for(start_busybox("insmod", getenv("mirrors"))), 0);
}

TEST(open_and_close_in_a_loop_leaves_nothing)
{
	char *p = map_anon(PAGE), byte;

	set_delay_ms(0);
	for (unsigned int i = 0; i < 200; i++) {
		int fd = mirror_open();

		p[0] = i;
		assert_int_equal(mirror_read(fd, p, &byte, 1), 0);
		assert_int_equal((unsigned char)byte, i);
		/* each open gets a new mirror, because the last close freed the old one */
		assert_int_equal(mirror_stats(fd).faults, 1);
		close(fd);
	}
	munmap(p, PAGE);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
