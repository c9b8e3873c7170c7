// SPDX-License-Identifier: MIT
/*
 * In the middle of invalidations and faults, notifiers are unregistered and processes are killed
 * and reaped. drill.ko is the driver here: it has callbacks of its own and can hold each step.
 */
#include "drill_device.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* longer than any test takes; each test releases what it holds */
#define HOLD_US		60000000
#define AN_HOUR_NS	3600000000000ULL

/* A discard or a fault on its own thread. */
struct drill_work {
	pthread_t thread;
	int fd;
	int memfd;		/* the file to discard the first len bytes of */
	size_t len;
	struct drill drill;
	int result;
};

static void *discard(void *arg)
{
	struct drill_work *w = arg;

	/*
	 * This takes no mmap lock, so it does not block the test. It makes one invalidation;
	 * truncation would make two.
	 */
	w->result = fallocate(w->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, w->len);
	return NULL;
}

static void *fault(void *arg)
{
	struct drill_work *w = arg;

	w->result = drill_do(w->fd, DRILL_FAULT, &w->drill);
	return NULL;
}

static void *unregister(void *arg)
{
	struct drill_work *w = arg;

	w->result = drill_do(w->fd, DRILL_UNREGISTER, &w->drill);
	return NULL;
}

static void start(struct drill_work *w, void *(*how)(void *))
{
	assert_int_equal(pthread_create(&w->thread, NULL, how, w), 0);
}

static int finish(struct drill_work *w)
{
	assert_int_equal(pthread_join(w->thread, NULL), 0);
	return w->result;
}

static struct drill_work fault_over(int fd, const void *page, unsigned int hold_us)
{
	return (struct drill_work){
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

/* Start a discard that is held in its invalidation. Return: the memory that it discards. */
static char *start_held_discard_of(struct drill_work *w, int fd, size_t len)
{
	char *p;

	*w = (struct drill_work){ .memfd = make_memfd(len, 0), .len = len };
	p = memory_alone(w->memfd, len);
	drill_hold(fd, p, len, HOLD_US);
	start(w, discard);
	wait_until_held(fd);
	return p;
}

static char *start_held_discard(struct drill_work *w, int fd)
{
	return start_held_discard_of(w, fd, PAGE);
}

TEST(a_fault_waits_for_a_running_invalidation_and_is_not_undone_by_it)
{
	int fd = drill_open();
	struct drill_work w, f;

	f = fault_over(fd, start_held_discard(&w, fd), 0);
	start(&f, fault);
	wait_until_faulting(fd);
	/* a fault that does not wait would be gone by now */
	sleep_ms(50);
	assert_int_equal(drill_state(fd).faults, 1);
	drill_let_go(fd);
	/* a fault that the end does not wake would wait for an hour: the alarm kills this test */
	alarm(60);
	assert_int_equal(finish(&f), 0);
	alarm(0);
	assert_int_equal(f.drill.rounds, 1);
	assert_int_equal(finish(&w), 0);
	assert_int_equal(drill_state(fd).running, 0);
	close(fd);
}

TEST(a_fault_elsewhere_does_not_wait_for_a_running_invalidation)
{
	int fd = drill_open();
	char *other = page_alone(make_memfd(PAGE, 0));
	struct drill_work w, f;

	start_held_discard(&w, fd);
	f = fault_over(fd, other, 0);
	fault(&f);
	assert_int_equal(f.result, 0);
	assert_int_equal(f.drill.held, 1);
	drill_let_go(fd);
	finish(&w);
	close(fd);
}

/* too wide for stripes */
#define HUGE_LEN	(512 * MIB)

TEST(a_fault_elsewhere_does_not_wait_for_a_running_huge_invalidation)
{
	int fd = drill_open();
	char *other = page_alone(make_memfd(PAGE, 0)), *huge;
	struct drill_work w, f;

	huge = start_held_discard_of(&w, fd, HUGE_LEN);
	f = fault_over(fd, other, 0);
	fault(&f);
	assert_int_equal(f.result, 0);
	assert_int_equal(f.drill.held, 1);
	/* a fault inside the range does wait, until its budget is spent */
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

TEST(a_fault_does_not_wait_for_a_huge_invalidation_that_has_ended)
{
	int fd = drill_open(), memfd = make_memfd(HUGE_LEN, 0);
	char *other = memory_alone(memfd, HUGE_LEN), *huge;
	struct drill_work w, f;

	huge = start_held_discard_of(&w, fd, HUGE_LEN);
	/* this one is as wide, and is not held */
	assert_int_equal(fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HUGE_LEN),
			 0);
	f = fault_over(fd, other, 0);
	f.drill.time_ns = 50000000;
	fault(&f);
	assert_int_equal(f.result, 0);
	assert_int_equal(f.drill.held, 1);
	drill_let_go(fd);
	assert_int_equal(finish(&w), 0);
	munmap(huge, HUGE_LEN);
	munmap(other, HUGE_LEN);
	close(memfd);
	close(fd);
}

/* A fault of two pages, in each round of which the drill does something. Return: its result. */
static int fault_with(uint64_t how)
{
	struct drill drill = {
		.addr = (unsigned long)map_aligned(2 * MIB),
		.len = 2 * PAGE,
		.how = how,
		.rounds = 3,
	};
	int fd = drill_open(), err = drill_do(fd, DRILL_FAULT, &drill);

	assert_int_equal(drill.running, 0);
	close(fd);
	return err;
}

TEST(an_invalidation_of_what_the_driver_has_walked_before_undoes_the_fault)
{
	assert_int_equal(fault_with(DRILL_MOVE), -EBUSY);
}

TEST(an_invalidation_up_to_the_end_of_the_address_space_undoes_the_fault)
{
	assert_int_equal(fault_with(DRILL_TO_THE_END), -EBUSY);
}

TEST(a_driver_without_a_release_is_told_to_drop_everything)
{
	int fd = drill_open();
	struct drill none = {};

	assert_int_equal(drill_do(fd, DRILL_UNREGISTER, &none), 0);
	assert_int_equal(none.dead, 1);
	assert_int_equal(none.dropped, 1);
	close(fd);
}

TEST(a_kernel_thread_cannot_open_a_device_and_does_no_harm)
{
	int fd = drill_open();
	struct drill none = {};

	assert_int_equal(drill_do(fd, DRILL_OPEN_IN_KERNEL, &none), -EINVAL);
	close(fd);
}

/*
 * Return: did the fault end while the invalidation was held? If it did not, the invalidation ends
 * now, or this program could not.
 */
static bool ends_meanwhile(int fd)
{
	for (unsigned int i = 0; i < 6000 && drill_state(fd).faults; i++)
		sleep_ms(10);
	if (!drill_state(fd).faults)
		return drill_state(fd).held;
	drill_let_go(fd);
	return false;
}

TEST(unregistering_during_a_fault_ends_it_with_ownerdead)
{
	int fd = drill_open();
	struct drill_work f = fault_over(fd, page_alone(make_memfd(PAGE, 0)), HOLD_US);
	struct drill none = {};

	start(&f, fault);
	wait_until_faulting(fd);
	/* now it is between its attempt and its commit, or just before the attempt */
	sleep_ms(50);
	assert_int_equal(drill_do(fd, DRILL_UNREGISTER, &none), 0);
	assert_int_equal(finish(&f), -EOWNERDEAD);
	assert_true(f.drill.rounds <= 1);
	/* every later fault fails in the same way */
	fault(&f);
	assert_int_equal(f.result, -EOWNERDEAD);
	close(fd);
}

TEST(unregistering_in_the_middle_of_an_invalidation_leaves_it_without_an_end)
{
	int fd = drill_open();
	struct drill_work w, u = { .fd = fd };

	start_held_discard(&w, fd);
	/* the kernel waits for the start to return, then removes the notifier: no end will come */
	start(&u, unregister);
	sleep_ms(50);
	drill_let_go(fd);
	assert_int_equal(finish(&u), 0);
	assert_int_equal(finish(&w), 0);
	/* the close frees the lock while the invalidation runs; the kernel must not complain */
	close(fd);
}

TEST(a_fault_that_waits_ends_when_its_notifier_is_unregistered)
{
	int fd = drill_open();
	struct drill_work w, f, u = { .fd = fd };

	f = fault_over(fd, start_held_discard(&w, fd), 0);
	start(&f, fault);
	wait_until_faulting(fd);
	start(&u, unregister);
	/* an hour of the budget is left, and no end will come */
	assert_true(ends_meanwhile(fd));
	assert_int_equal(finish(&f), -EOWNERDEAD);
	assert_int_equal(f.drill.rounds, 0);
	assert_int_equal(f.drill.held, 1);
	drill_let_go(fd);
	assert_int_equal(finish(&u), 0);
	finish(&w);
	assert_int_equal(drill_state(fd).running, 1);
	close(fd);
}

/* Each round is undone, and none has to wait. */
static void go_round_for_ever(int fd)
{
	struct drill_work f = fault_over(fd, page_alone(make_memfd(PAGE, 0)), 1000);

	f.drill.how = DRILL_COLLIDE;
	f.drill.rounds = ~0U;
	fault(&f);
	_exit(99);
}

/* One thread is held in an invalidation, and another waits for it. */
static void wait_for_another(int fd)
{
	struct drill_work w, f = fault_over(fd, start_held_discard(&w, fd), 0);

	fault(&f);
	/* only a fault that did not wait gets here while the invalidation is held */
	_exit(99);
}

/* Start a process that opens the drill and calls @be. Return: a descriptor of the same file. */
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

/* Start such a process, and wait until it faults. */
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
	assert_true(ends_meanwhile(fd));
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
	/* it goes on after its first round */
	sleep_ms(50);
	assert_int_equal(drill_state(fd).faults, 1);
	assert_int_equal(kill(victim, SIGKILL), 0);
	/* if the victim does not end, the alarm kills this test */
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
	/* this does what the OOM reaper does, while a thread of the victim is held */
	if (syscall(SYS_process_mrelease, pidfd, 0) && errno == ENOSYS) {
		drill_let_go(fd);
		TEST_SKIP("this kernel has no process_mrelease()");
	}
	d = drill_state(fd);
	assert_true(d.atomic_starts > 0);
	/* all of those have ended, but the held one has not */
	assert_int_equal(d.held, 1);
	assert_int_equal(d.running, 1);
	drill_let_go(fd);
	assert_int_equal(waitpid(victim, &status, 0), victim);
	close(fd);
	close(pidfd);
}

/* A pipe. A byte in it tells the child to go on. */
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
	/* the descriptor stays open over exec */
	execl("/bin/busybox", "sleep", "100000", NULL);
	_exit(96);
}

static void wait_for_ever(int fd)
{
	(void)fd;
	for (;;)
		pause();
}

/* When the address space ends, the driver must see a release, and every later fault must fail. */
static void expect_release(void (*be)(int fd))
{
	int pidfd, fd;
	struct drill_work f;
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
