// SPDX-License-Identifier: MIT
/*
 * Unregistering, killing and reaping in the middle of invalidations and faults, shown on
 * drill.ko: a driver with callbacks of its own, which can hold each step.
 */
#include "drill_device.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* longer than any test takes: each lets go of what it holds */
#define HOLD_US		60000000
#define AN_HOUR_NS	3600000000000ULL

/* a discard, or a fault, on a thread of its own */
struct work {
	pthread_t thread;
	int fd;
	int memfd;		/* what is discarded, from its beginning */
	size_t len;
	struct drill drill;
	int result;
};

static void *discard(void *arg)
{
	struct work *w = arg;

	/*
	 * Takes no mmap lock: whatever the test does meanwhile is not held up. And invalidates
	 * once, where truncation does so before and after.
	 */
	w->result = fallocate(w->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, w->len);
	return NULL;
}

static void *fault(void *arg)
{
	struct work *w = arg;

	w->result = drill_do(w->fd, DRILL_FAULT, &w->drill);
	return NULL;
}

static void *unregister(void *arg)
{
	struct work *w = arg;

	w->result = drill_do(w->fd, DRILL_UNREGISTER, &w->drill);
	return NULL;
}

static void start(struct work *w, void *(*how)(void *))
{
	assert_int_equal(pthread_create(&w->thread, NULL, how, w), 0);
}

static int finish(struct work *w)
{
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	return w->result;
}

static struct work fault_over(int fd, const void *page, unsigned int hold_us)
{
	return (struct work){
		.fd = fd,
		.drill = {
			.addr = (unsigned long)page,
			.len = PAGE,
			.hold_us = hold_us,
			.time_ns = AN_HOUR_NS,
		},
	};
}

static void wait_until_faulting(int fd)
{
	while (!drill_state(fd).faults)
		sleep_ms(1);
}

/* Return: the memory of which the discard is held */
static char *start_held_discard_of(struct work *w, int fd, size_t len)
{
	char *p;

	*w = (struct work){ .memfd = make_memfd(len, 0), .len = len };
	p = memory_alone(w->memfd, len);
	drill_hold(fd, p, len, HOLD_US);
	start(w, discard);
	wait_until_held(fd);
	return p;
}

static char *start_held_discard(struct work *w, int fd)
{
	return start_held_discard_of(w, fd, PAGE);
}

TEST(a_fault_waits_for_a_running_invalidation_and_is_not_undone_by_it)
{
	int fd = drill_open();
	struct work w, f;

	f = fault_over(fd, start_held_discard(&w, fd), 0);
	start(&f, fault);
	wait_until_faulting(fd);
	/* there is nothing to see when it does not wait, but that it is still there */
	sleep_ms(50);
	assert_int_equal(drill_state(fd).faults, 1);
	drill_let_go(fd);
	assert_int_equal(finish(&f), 0);
	assert_int_equal(f.drill.rounds, 1);
	assert_int_equal(finish(&w), 0);
	assert_int_equal(drill_state(fd).running, 0);
	close(fd);
}

TEST(a_fault_elsewhere_does_not_wait_for_a_running_invalidation)
{
	int fd = drill_open();
	char *other = page_alone(make_memfd(PAGE, 0));
	struct work w, f;

	start_held_discard(&w, fd);
	f = fault_over(fd, other, 0);
	fault(&f);
	assert_int_equal(f.result, 0);
	assert_int_equal(f.drill.held, 1);
	drill_let_go(fd);
	finish(&w);
	close(fd);
}

/* more than stripes can tell */
#define HUGE_LEN	(512 * MIB)

TEST(a_fault_elsewhere_does_not_wait_for_a_running_huge_invalidation)
{
	int fd = drill_open();
	char *other = page_alone(make_memfd(PAGE, 0)), *huge;
	struct work w, f;

	huge = start_held_discard_of(&w, fd, HUGE_LEN);
	f = fault_over(fd, other, 0);
	fault(&f);
	assert_int_equal(f.result, 0);
	assert_int_equal(f.drill.held, 1);
	/* in its middle one does: what is too long for the test to wait for is left to the kill */
	f = fault_over(fd, huge + HUGE_LEN / 2, 0);
	f.drill.time_ns = 50000000;
	fault(&f);
	assert_int_equal(f.result, -EBUSY);
	assert_int_equal(f.drill.rounds, 0);
	drill_let_go(fd);
	assert_int_equal(finish(&w), 0);
	assert_int_equal(drill_state(fd).running, 0);
	munmap(huge, HUGE_LEN);
	close(fd);
}

TEST(unregistering_during_a_fault_ends_it_with_ownerdead)
{
	int fd = drill_open();
	struct work f = fault_over(fd, page_alone(make_memfd(PAGE, 0)), HOLD_US);
	struct drill none = {};

	start(&f, fault);
	wait_until_faulting(fd);
	/* between its attempt and its commit, or just before */
	sleep_ms(50);
	assert_int_equal(drill_do(fd, DRILL_UNREGISTER, &none), 0);
	assert_int_equal(finish(&f), -EOWNERDEAD);
	assert_true(f.drill.rounds <= 1);
	/* and so does every later one */
	fault(&f);
	assert_int_equal(f.result, -EOWNERDEAD);
	close(fd);
}

TEST(unregistering_in_the_middle_of_an_invalidation_leaves_it_without_an_end)
{
	int fd = drill_open();
	struct work w, u = { .fd = fd };

	start_held_discard(&w, fd);
	/* waits for the start to return; the end finds nobody */
	start(&u, unregister);
	sleep_ms(50);
	drill_let_go(fd);
	assert_int_equal(finish(&u), 0);
	assert_int_equal(finish(&w), 0);
	/* freed while it runs: the kernel's log has to stay empty */
	close(fd);
}

TEST(a_fault_that_waits_ends_when_its_notifier_is_unregistered)
{
	int fd = drill_open();
	struct work w, f, u = { .fd = fd };

	f = fault_over(fd, start_held_discard(&w, fd), 0);
	start(&f, fault);
	wait_until_faulting(fd);
	start(&u, unregister);
	/* the invalidation is still held, and an hour is left */
	assert_int_equal(finish(&f), -EOWNERDEAD);
	assert_int_equal(f.drill.rounds, 0);
	assert_int_equal(f.drill.held, 1);
	drill_let_go(fd);
	assert_int_equal(finish(&u), 0);
	finish(&w);
	assert_int_equal(drill_state(fd).running, 1);
	close(fd);
}

/* each round is undone, and none has to wait for anything */
static void go_round_for_ever(int fd)
{
	struct work f = fault_over(fd, page_alone(make_memfd(PAGE, 0)), 1000);

	f.drill.how = DRILL_COLLIDE;
	f.drill.rounds = ~0U;
	fault(&f);
	_exit(99);
}

/* one thread is held in an invalidation, and one waits for it */
static void wait_for_another(int fd)
{
	struct work w, f = fault_over(fd, start_held_discard(&w, fd), 0);

	fault(&f);
	/* not before the held one has ended */
	_exit(99);
}

/* Return: its fd of the drill, in this process; *ret_pid: it */
static int start_process(void (*be)(int fd), pid_t *ret_pid, int *ret_pidfd)
{
	int ready[2], fd, pidfd, here;
	pid_t child;

	assert_int_equal(pipe(ready), 0);
	child = fork_with_us();
	if (!child) {
		fd = open("/dev/invlock_drill", O_RDWR);
		if (write(ready[1], &fd, sizeof(fd)) == sizeof(fd))
			be(fd);
		_exit(98);
	}
	assert_int_equal(read(ready[0], &fd, sizeof(fd)), sizeof(fd));
	pidfd = syscall(SYS_pidfd_open, child, 0);
	here = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	assert_true(here >= 0);
	close(ready[0]);
	close(ready[1]);
	*ret_pid = child;
	*ret_pidfd = pidfd;
	return here;
}

/* the same for one that faults, and does so by now */
static int start_victim(void (*be)(int fd), pid_t *ret_pid, int *ret_pidfd)
{
	int fd = start_process(be, ret_pid, ret_pidfd);

	wait_until_faulting(fd);
	return fd;
}

TEST(a_fault_that_waits_for_a_running_invalidation_can_be_killed)
{
	int pidfd, status, fd;
	pid_t victim;

	fd = start_victim(wait_for_another, &victim, &pidfd);
	assert_int_equal(drill_state(fd).held, 1);
	assert_int_equal(kill(victim, SIGKILL), 0);
	/* the waiting thread goes while the invalidation that it waits for is still held */
	while (drill_state(fd).faults)
		sleep_ms(1);
	assert_int_equal(drill_state(fd).held, 1);
	drill_let_go(fd);
	assert_int_equal(waitpid(victim, &status, 0), victim);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	close(fd);
	close(pidfd);
}

TEST(a_fault_that_goes_round_and_never_waits_can_be_killed)
{
	int pidfd, status, fd;
	pid_t victim;

	fd = start_victim(go_round_for_ever, &victim, &pidfd);
	/* its first round is not the last */
	sleep_ms(50);
	assert_int_equal(drill_state(fd).faults, 1);
	assert_int_equal(kill(victim, SIGKILL), 0);
	/* the alarm kills this test if it does not end */
	alarm(60);
	assert_int_equal(waitpid(victim, &status, 0), victim);
	alarm(0);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	close(fd);
	close(pidfd);
}

TEST(invalidations_that_must_not_sleep_are_counted_like_all_others)
{
	int pidfd, status, fd;
	pid_t victim;
	struct drill d;

	fd = start_victim(wait_for_another, &victim, &pidfd);
	assert_int_equal(kill(victim, SIGKILL), 0);
	/* what the OOM reaper does, while a thread of the victim is held */
	if (syscall(SYS_process_mrelease, pidfd, 0) && errno == ENOSYS) {
		drill_let_go(fd);
		TEST_SKIP("this kernel has no process_mrelease()");
	}
	d = drill_state(fd);
	assert_true(d.atomic_starts > 0);
	/* every one of them has ended; the held one has not */
	assert_int_equal(d.held, 1);
	assert_int_equal(d.running, 1);
	drill_let_go(fd);
	assert_int_equal(waitpid(victim, &status, 0), victim);
	close(fd);
	close(pidfd);
}

/* written to when it may go on */
static int go[2];

static void wait_for_go(void)
{
	char byte;

	if (read(go[0], &byte, 1) != 1)
		_exit(97);
}

static void exit_when_told(int fd)
{
	(void)fd;
	wait_for_go();
	_exit(0);
}

static void exec_when_told(int fd)
{
	(void)fd;
	wait_for_go();
	/* the fd is still open there */
	execl("/bin/busybox", "sleep", "100000", NULL);
	_exit(96);
}

static void wait_for_ever(int fd)
{
	(void)fd;
	for (;;)
		pause();
}

/* nothing else says that an address space has ended; what is asked for after it is refused */
static void expect_release(void (*be)(int fd))
{
	int pidfd, fd;
	struct work f;
	pid_t child;

	assert_int_equal(pipe(go), 0);
	fd = start_process(be, &child, &pidfd);
	assert_int_equal(drill_state(fd).dead, 0);
	if (be == wait_for_ever)
		kill(child, SIGKILL);
	else
		assert_int_equal(write(go[1], "", 1), 1);
	for (unsigned int i = 0; i < 30000 && !drill_state(fd).dead; i++)
		sleep_ms(10);
	assert_int_equal(drill_state(fd).dead, 1);
	assert_int_equal(drill_state(fd).running, 0);
	f = fault_over(fd, (void *)PAGE, 0);
	fault(&f);
	assert_int_equal(f.result, -EOWNERDEAD);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	close(fd);
	close(pidfd);
	close(go[0]);
	close(go[1]);
}

TEST(exit_exec_and_sigkill_are_seen_as_a_release)
{
	expect_release(exit_when_told);
	expect_release(exec_when_told);
	expect_release(wait_for_ever);
}

TEST_MAIN()
