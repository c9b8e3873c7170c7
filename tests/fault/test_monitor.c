// SPDX-License-Identifier: MIT
/*
 * The writer of the feed fails: a debugger stops or kills the uffd monitor's thread, or the reaper;
 * or the program closes the BPF program's descriptors. What cannot be known is then no hit, and
 * every call returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "lib/cache/cache_internal.h"
#include "lib/monitor/monitor.h"
#include "lib/monitor/bpf/bpf.h"
#include "tests/arch.h"
#include "tests/test.h"
#include "tests/threads.h"
#include "tests/lib/rig.h"

#define PATIENCE_S	300	/* after this time a child counts as hanging */
#define NEAR_NS		2000000000	/* within this time a busy machine runs each thread */
#define LONG_NS		60000000000	/* for what does not depend on a thread that is stopped */
#define EXIT_SKIP	77

/* Shared by the test and its child. */
struct shared {
	pid_t tid;		/* the thread that is to be stopped */
	unsigned int phase;	/* 1: tid known; 2: stopped; 3: child has looked; 4: continued */
	char why[200];		/* the child's complaint, or its reason to skip */
};

static struct shared *shared;
static struct fake_device fake;

static void phase(unsigned int nr)
{
	__atomic_store_n(&shared->phase, nr, __ATOMIC_SEQ_CST);
}

static void wait_for(unsigned int nr)
{
	while (__atomic_load_n(&shared->phase, __ATOMIC_SEQ_CST) < nr)
		usleep(1000);
}

/* In the child: reports a failure and exits. */
#define EXPECT(cond)							\
do {									\
	if (!(cond)) {							\
		snprintf(shared->why, sizeof(shared->why), "line %d: not so: %s", __LINE__, \
			 #cond);					\
		_exit(1);						\
	}								\
} while (0)

/* Runs in the child. */
static void open_with(const char *monitor, unsigned int flags)
{
	struct invlock_mm_options mo = {
		.size = sizeof(mo), .monitor = monitor, .need = INVLOCK_BIT(UNMAP),
	};
	struct invlock_cache_options co = {
		.size = sizeof(co),
		.flags = flags ? flags : INVLOCK_CACHE_NO_REAPER,
		.need = INVLOCK_BIT(UNMAP),
		.ops = { fake_reg, fake_dereg },
		.ctx = &fake,
		.time_ns = NEAR_NS,
		.reap_ms = 10,
	};
	struct invlock_why why;
	int err = invlock_mm_open(&mo, &fake.mm, &why);

	if (err) {
		snprintf(shared->why, sizeof(shared->why), "%.180s", why.text);
		_exit(err == -EPERM || err == -ENOSYS || err == -EOPNOTSUPP ? EXIT_SKIP : 1);
	}
	EXPECT(!invlock_cache_open(fake.mm, &co, &fake.cache, &why));
}

static char *map_page(void *at)
{
	return mmap(at, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);
}

/* Return: the handle, or an error */
static int64_t use(char *at)
{
	struct invlock_pin pin;
	int err = invlock_cache_get(fake.cache, at, PAGE, 0, &pin);

	if (err)
		return err;
	EXPECT(!invlock_cache_put(&pin));
	return pin.handle;
}

static void close_all(void)
{
	EXPECT(!invlock_cache_close(fake.cache));
	invlock_mm_close(fake.mm);
	EXPECT(!fake.nr_live && !fake.nr_wrong);
}

/* ---- in the test: stopping or killing one thread of the child ---- */

static void stop(pid_t tid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_SEIZE, tid, NULL, NULL), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), 0);
	assert_int_equal(waitpid(tid, &status, __WALL), tid);
	assert_true(WIFSTOPPED(status));
}

/* Turns the thread's next system call into exit(). */
static void kill_stopped(pid_t tid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_SYSCALL, tid, NULL, 0L), 0);
	assert_int_equal(waitpid(tid, &status, __WALL), tid);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(change_call(tid, SYS_exit), 0);
	assert_int_equal(change_argument(tid, 0), 0);
	assert_int_equal(ptrace(PTRACE_CONT, tid, NULL, 0L), 0);
	assert_int_equal(waitpid(tid, &status, __WALL), tid);
	assert_true(WIFEXITED(status));
}

/* Runs in the test. Return: false = the child has ended before, with this status */
static bool reaches(pid_t pid, unsigned int nr, int *status)
{
	while (__atomic_load_n(&shared->phase, __ATOMIC_SEQ_CST) < nr) {
		if (waitpid(pid, status, WNOHANG) == pid)
			return false;
		usleep(1000);
	}
	return true;
}

static void run(void (*job)(void), bool and_kill)
{
	bool ended = true;
	int status;
	pid_t pid;

	if (and_kill && !CAN_CHANGE_CALLS)
		TEST_SKIP("on this architecture the test cannot turn a call into an exit");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	fake = (struct fake_device){};
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(PATIENCE_S);
		/* A process that had joined our set would keep its programs attached. */
		monitor_bpf_options.family = (u64)getpid() << 32;
		job();
		_exit(0);
	}
	if (reaches(pid, 1, &status)) {
		stop(shared->tid);
		if (and_kill)
			kill_stopped(shared->tid);
		phase(2);
		ended = !reaches(pid, 3, &status);
		if (!and_kill)
			ptrace(PTRACE_DETACH, shared->tid, NULL, 0L);
		phase(4);
	}
	if (!ended)
		assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
		TEST_SKIP("%.180s", shared->why);
	if (status)
		fail_msg("status %#x %s", status, shared->why);
	munmap(shared, sizeof(*shared));
}

static void wait_until_stopped(const char *name)
{
	shared->tid = thread_named(name);
	EXPECT(shared->tid);
	phase(1);
	wait_for(2);
}

/* ---- the uffd monitor's thread ---- */

static void *unmap(void *page)
{
	munmap(page, PAGE);
	return NULL;
}

static bool is_mapped(char *page)
{
	unsigned char resident;

	return !mincore(page, PAGE, &resident);
}

/* Opens uffd and has its thread stopped: another thread's munmap() of page then waits for it. */
static void look_during_munmap(pthread_t *ret_id, char *page, char *other)
{
	open_with("uffd", 0);
	EXPECT(use(page) == 1);
	wait_until_stopped("invlock-uffd");
	EXPECT(use(other) >= 0);
	EXPECT(!pthread_create(ret_id, NULL, unmap, page));
	while (is_mapped(page))
		usleep(1000);
	/*
	 * The map has changed and the change is not marked yet: nothing is known of this page or
	 * another.
	 */
	EXPECT(use(page) == -EBUSY);
	EXPECT(use(other) == -EBUSY);
	EXPECT(invlock_cache_reap(fake.cache) >= 0);
	phase(3);
}

static void uffd_starves(void)
{
	char *page = map_page(NULL), *other = map_page(NULL);
	pthread_t id;

	look_during_munmap(&id, page, other);
	wait_for(4);
	pthread_join(id, NULL);
	/* The monitor works again as before. */
	fake.cache->budget.time_ns = LONG_NS;
	EXPECT(use(page) == -EFAULT);
	EXPECT(use(other) >= 0);
	map_page(page);
	EXPECT(use(page) > 1);
	close_all();
}

static void uffd_dies(void)
{
	char *page = map_page(NULL), *other = map_page(NULL);
	pthread_t id;

	look_during_munmap(&id, page, other);
	/* The close returns, and releases the munmap(). */
	close_all();
	pthread_join(id, NULL);
	/* A new open works. */
	open_with("uffd", 0);
	EXPECT(use(other) >= 0);
	close_all();
}

TEST(while_the_thread_of_uffd_is_stopped_nothing_is_a_hit_and_nothing_hangs)
{
	run(uffd_starves, false);
}

TEST(after_the_thread_of_uffd_was_killed_a_close_releases_everything)
{
	run(uffd_dies, true);
}

/* ---- the reaper ---- */

static void without_a_reaper(bool dies)
{
	char *page = (char *)0x100000000;

	open_with("manual", INVLOCK_CACHE_REAPER);
	EXPECT(use(page) == 1);
	wait_until_stopped("invlock-reaper");
	fake_change(&fake, page, PAGE);
	EXPECT(use(page) == 2);
	fake_change(&fake, page, PAGE);
	EXPECT(invlock_cache_reap(fake.cache) >= 1);
	fake_change(&fake, page, PAGE);
	EXPECT(use(page) == 3);
	fake_change(&fake, page, PAGE);
	phase(3);
	wait_for(4);
	/* A thread that was only stopped continues its work. */
	while (!dies && __atomic_load_n(&fake.nr_live, __ATOMIC_SEQ_CST))
		usleep(1000);
	close_all();
}

static void reaper_starves(void)
{
	without_a_reaper(false);
}

static void reaper_dies(void)
{
	without_a_reaper(true);
}

TEST(while_the_reaper_is_stopped_other_threads_can_do_its_work)
{
	run(reaper_starves, false);
}

TEST(a_cache_whose_reaper_was_killed_can_be_closed)
{
	run(reaper_dies, true);
}

/* ---- the descriptors ---- */

static void descriptors_closed(const char *monitor, unsigned int flags)
{
	char *page = map_page(NULL);
	int64_t before, after;

	open_with(monitor, flags);
	before = use(page);
	EXPECT(before == 1);
	/* A daemon begins by closing all descriptors. */
	EXPECT(!syscall(SYS_close_range, 3, ~0U, 0));
	for (int i = 0; i < 3; i++) {
		map_page(page);
		after = use(page);
		/* The get makes a new registration, or fails; it never returns the old one. */
		EXPECT(after < 0 || after > before);
		EXPECT(after >= 0 || after == -ENOTRECOVERABLE || after == -EBUSY);
		if (after > 0)
			before = after;
	}
	EXPECT(invlock_cache_reap(fake.cache) >= 0);
	close_all();
}

static void bpf_loses_descriptors(void)
{
	open_with("bpf", 0);
	if (!monitor_bpf_let_go(fake.mm)) {
		snprintf(shared->why, sizeof(shared->why), "there is no io_uring here to keep "
			 "the BPF program attached");
		_exit(EXIT_SKIP);
	}
	close_all();
	fake = (struct fake_device){};
	descriptors_closed("bpf", 0);
	/* The next open works. */
	open_with("bpf", 0);
	EXPECT(use(map_page(NULL)) > 0);
	close_all();
}

static void bpf_is_detached(void)
{
	char *page = map_page(NULL);

	open_with("bpf", 0);
	/* as on a machine without io_uring, where nothing keeps the program attached */
	monitor_bpf_let_go(fake.mm);
	EXPECT(use(page) == 1);
	EXPECT(!syscall(SYS_close_range, 3, ~0U, 0));
	map_page(page);
	/* The change went unseen. The cache finds that out when it looks for dead entries. */
	EXPECT(invlock_cache_reap(fake.cache) == 1);
	EXPECT(use(page) == -ENOTRECOVERABLE);
	EXPECT(use(map_page(NULL)) == -ENOTRECOVERABLE);
	close_all();
	fake = (struct fake_device){};
	open_with("bpf", 0);
	EXPECT(use(page) == 1);
	close_all();
}

static void uffd_loses_descriptors(void)
{
	descriptors_closed("uffd", INVLOCK_CACHE_REAPER);
}

TEST(a_program_that_closes_all_descriptors_does_not_detach_bpf)
{
	run(bpf_loses_descriptors, false);
}

TEST(a_bpf_program_that_was_detached_nevertheless_is_noticed)
{
	run(bpf_is_detached, false);
}

TEST(a_program_that_closes_all_descriptors_loses_uffd_and_gets_an_error)
{
	run(uffd_loses_descriptors, false);
}

TEST_MAIN()
