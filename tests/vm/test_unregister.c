// SPDX-License-Identifier: MIT
/*
 * In the middle of invalidations and faults, notifiers are unregistered and processes are killed
 * and reaped. drill.ko is the driver here: it has callbacks of its own and can hold each step.
 */
#include "drill_rig.h"

TEST(a_fault_waits_for_a_running_invalidation_and_is_not_undone_by_it)
{
	int fd = drill_open();
	static struct drill_work w, f;

	f = fault_over(fd, start_held_discard(&w, fd), 0);
	start(&f, fault);
	assert_true(waits(&f));
	drill_let_go(fd);
	/* a fault that the end does not wake would wait for an hour: the alarm kills this test */
	alarm(LOST_MS / 1000);
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
	static struct drill_work w, f;

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
	static struct drill_work w, f;

	huge = start_held_discard_of(&w, fd, HUGE_LEN);
	f = fault_over(fd, other, 0);
	fault(&f);
	assert_int_equal(f.result, 0);
	assert_int_equal(f.drill.held, 1);
	/* a fault inside the range does wait, until its budget is spent */
	f = fault_over(fd, huge + HUGE_LEN / 2, 0);
	f.drill.time_ns = 50000000;
	start(&f, fault);
	assert_true(fault_ends_meanwhile(fd, &f));
	assert_int_equal(finish(&f), -EBUSY);
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
	static struct drill_work w, f;

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

TEST(a_fault_of_a_huge_range_waits_for_a_small_invalidation_in_it)
{
	int fd = drill_open();
	static struct drill_work w, f;

	f = fault_over(fd, start_held_discard(&w, fd), 0);
	f.drill.addr &= ~(HUGE_LEN - 1);
	f.drill.len = 2 * HUGE_LEN;
	f.drill.time_ns = 50000000;
	fault(&f);
	assert_int_equal(f.result, -EBUSY);
	assert_int_equal(f.drill.rounds, 0);
	drill_let_go(fd);
	assert_int_equal(finish(&w), 0);
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

TEST(unregistering_during_a_fault_ends_it_with_ownerdead)
{
	int fd = drill_open();
	static struct drill_work f;
	struct drill none = {};

	f = fault_over(fd, page_alone(make_memfd(PAGE, 0)), HOLD_US);
	start(&f, fault);
	/* between its attempt and its commit */
	wait_until_fault_is_held(fd);
	assert_int_equal(drill_do(fd, DRILL_UNREGISTER, &none), 0);
	assert_int_equal(finish(&f), -EOWNERDEAD);
	assert_int_equal(f.drill.rounds, 1);
	/* every later fault fails in the same way */
	fault(&f);
	assert_int_equal(f.result, -EOWNERDEAD);
	close(fd);
}

TEST(unregistering_in_the_middle_of_an_invalidation_leaves_it_without_an_end)
{
	int fd = drill_open();
	static struct drill_work w, u;

	u.fd = fd;
	start_held_discard(&w, fd);
	/* the kernel waits for the start to return, then removes the notifier: no end will come */
	start(&u, unregister);
	assert_true(waits(&u));
	drill_let_go(fd);
	assert_int_equal(finish(&u), 0);
	assert_int_equal(finish(&w), 0);
	/* the close frees the lock while the invalidation runs; the kernel must not complain */
	close(fd);
}

TEST(a_fault_that_waits_ends_when_its_notifier_is_unregistered)
{
	int fd = drill_open();
	static struct drill_work w, f, u;

	u.fd = fd;
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

TEST(a_fault_that_waits_for_a_running_invalidation_can_be_killed)
{
	int pidfd, fd;
	pid_t victim;

	fd = start_victim(wait_for_another, &victim, &pidfd);
	/* a thread that is killed before it waits would not begin to */
	assert_true(becomes_blocked(victim));
	assert_int_equal(drill_state(fd).held, 1);
	assert_int_equal(kill(victim, SIGKILL), 0);
	assert_true(ends_meanwhile(fd));
	drill_let_go(fd);
	assert_int_equal(WTERMSIG(wait_for(victim)), SIGKILL);
	close(fd);
	close(pidfd);
}

/* The thread of a victim that waits for the mmap lock; shared with the victim. */
static struct blocked {
	const char *device;
	char *page;
	int fd, drill;
	pid_t tid;
} *blocked;

static void *protect_page(void *page)
{
	mprotect(page, PAGE, PROT_READ);
	return NULL;
}

static void *read_page(void *arg)
{
	char byte;

	wait_until_held(blocked->drill);
	__atomic_store_n(&blocked->tid, gettid(), __ATOMIC_RELEASE);
	mirror_read(blocked->fd, blocked->page, &byte, 1);
	return arg;
}

/*
 * One thread is held in an invalidation, with the mmap lock, and another one waits for that lock.
 * The mirror sees only the page that it reads.
 */
static void wait_for_the_mmap_lock(int fd)
{
	char *other = map_aligned(2 * MIB);
	pthread_t thread;

	blocked->page = map_aligned(2 * MIB);
	*blocked->page = *other = 1;
	blocked->drill = fd;
	blocked->fd = open(blocked->device, O_RDWR);
	mirror_range(blocked->fd, blocked->page, PAGE);
	/* while the lock is held, no thread may touch a page that is not mapped, as of its stack */
	mlockall(MCL_CURRENT | MCL_FUTURE);
	drill_hold(fd, other, PAGE, HOLD_US);
	if (pthread_create(&thread, NULL, read_page, NULL))
		_exit(95);
	protect_page(other);
	_exit(99);
}

/* Has the thread left what it waited in? Then it may wait for the mmap lock again, to exit. */
static bool is_exiting(pid_t pid, pid_t tid)
{
	unsigned int flags = 0;
	char path[64], stat[512];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, stat, sizeof(stat) - 1);
		close(fd);
	}
	if (n <= 0)
		return true;
	stat[n] = '\0';
	sscanf(strrchr(stat, ')'), ") %*c %*d %*d %*d %*d %*d %u", &flags);
	return flags & 4;	/* PF_EXITING */
}

static void expect_that_a_blocked_fault_can_be_killed(const char *device)
{
	int pidfd, fd;
	pid_t victim;

	blocked = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(blocked, MAP_FAILED);
	blocked->device = device;
	fd = start_process(wait_for_the_mmap_lock, &victim, &pidfd);
	assert_true(BECOMES(__atomic_load_n(&blocked->tid, __ATOMIC_ACQUIRE)));
	/* by then it waits; if it does not yet, it will see that it was killed */
	sleep_ms(50);
	assert_false(is_exiting(victim, blocked->tid));
	assert_int_equal(kill(victim, SIGKILL), 0);
	assert_true(BECOMES(is_exiting(victim, blocked->tid)));
	assert_int_equal(drill_state(fd).held, 1);
	drill_let_go(fd);
	assert_int_equal(WTERMSIG(wait_for(victim)), SIGKILL);
	munmap(blocked, PAGE);
	close(fd);
	close(pidfd);
}

TEST(a_fault_that_waits_for_the_mmap_lock_can_be_killed)
{
	expect_that_a_blocked_fault_can_be_killed("/dev/invlock_mirror");
	expect_that_a_blocked_fault_can_be_killed("/dev/invlock_any");
}

TEST(a_fault_that_goes_round_and_never_waits_can_be_killed)
{
	int pidfd, fd;
	pid_t victim;

	fd = start_victim(go_round_for_ever, &victim, &pidfd);
	/* it goes on after its first round */
	sleep_ms(50);
	assert_int_equal(drill_state(fd).faults, 1);
	assert_int_equal(kill(victim, SIGKILL), 0);
	/* otherwise the teardown ends its collisions */
	assert_true(BECOMES(!drill_state(fd).faults));
	assert_int_equal(WTERMSIG(wait_for(victim)), SIGKILL);
	close(fd);
	close(pidfd);
}

TEST(invalidations_that_must_not_sleep_are_counted_like_all_others)
{
	int pidfd, fd;
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
	wait_for(victim);
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
	wait_for(child);
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

TEST_MAIN(.teardown = let_go_of_everything)
