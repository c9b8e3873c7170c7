// SPDX-License-Identifier: MIT
/*
 * fork, raw clone, vfork, exec: what a child inherits is dead, and each call says so with one
 * errno.
 */
#include <invlock/section.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/lib/rig.h"
#include "tests/threads.h"

#define MANY	100	/* more pins than fit into a thread's first slots */

static struct fake_device fake;
static char *const mem = (char *)0x100000000;

/* A child must not run cmocka's assertions; its exit code tells the line that failed. */
#define CHECK(cond) do { if (!(cond)) _exit(__LINE__ & 0x7f ? __LINE__ & 0x7f : 1); } while (0)

/*
 * A raw clone leaves the locks of libc as they are. Therefore the reaper, which may only just have
 * been started, must hold none at that moment.
 */
static void in_child(void (*what)(void), bool raw)
{
	pid_t pid;
	int status;

	while (raw && !thread_sleeps("invlock-reaper"))
		usleep(1000);
	pid = raw ? (pid_t)syscall(SYS_clone, 17 /* SIGCHLD */, 0, 0, 0, 0) : fork();
	assert_true(pid >= 0);
	if (!pid) {
		what();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static struct invlock_pin held;
static struct invlock_read translated;

static void everything_is_dead(void)
{
	struct invlock_cache_stats s = { .size = sizeof(s) };
	struct invlock_mm_info i = { .size = sizeof(i) };
	struct invlock_pin pin;
	struct invlock_read rd;

	CHECK(!invlock_mm_alive(fake.mm));
	CHECK(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin) == -EOWNERDEAD);
	CHECK(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_CACHED, &pin) == -EOWNERDEAD);
	CHECK(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_BYPASS, &pin) == -EOWNERDEAD);
	CHECK(invlock_cache_put(&held) == -EOWNERDEAD);
	CHECK(invlock_cache_drop(fake.cache, mem, PAGE) == -EOWNERDEAD);
	CHECK(invlock_cache_reap(fake.cache) == -EOWNERDEAD);
	CHECK(invlock_cache_fd(fake.cache) == -EOWNERDEAD);
	CHECK(invlock_cache_stats(fake.cache, &s) == -EOWNERDEAD);
	CHECK(invlock_mm_info(fake.mm, &i) == -EOWNERDEAD);
	CHECK(invlock_manual_start(fake.mm, mem, PAGE) == -EOWNERDEAD);
	CHECK(invlock_manual_end(fake.mm, mem, PAGE) == -EOWNERDEAD);
	CHECK(!invlock_read_valid(&translated));
	invlock_read_end(&translated);
	invlock_read_init(&rd, fake.mm, mem, PAGE, NULL, 0);
	CHECK(!invlock_read_attempt(&rd));
	CHECK(invlock_read_error(&rd) == -EOWNERDEAD);
}

static void dead_then_reopened(void)
{
	unsigned int nr_dereg = fake.nr_dereg;
	struct invlock_pin pin, pins[MANY];

	everything_is_dead();
	/* The registrations belong to the parent: a close here calls no dereg(), pinned or not. */
	CHECK(invlock_cache_close(fake.cache) == 0);
	invlock_mm_close(fake.mm);
	CHECK(fake.nr_dereg == nr_dereg);

	fake_open(&fake, NULL);
	CHECK(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin) == 0);
	CHECK(fake.nr_reg == 1);
	CHECK(invlock_cache_put(&pin) == 0);
	CHECK(invlock_cache_put(&pin) == -EINVAL);
	/* The parent's pin is refused, even where a pin of this process has the same slot. */
	for (int i = 0; i < MANY; i++)
		CHECK(invlock_cache_get(fake.cache, mem, PAGE, 0, &pins[i]) == 0);
	CHECK(invlock_cache_put(&held) == -EOWNERDEAD);
	for (int i = 0; i < MANY; i++)
		CHECK(invlock_cache_put(&pins[i]) == 0);
	CHECK(invlock_cache_put(&held) == -EOWNERDEAD);
	fake_change(&fake, mem, PAGE);
	/* What the parent's threads had pinned is not pinned here. */
	CHECK(invlock_cache_reap(fake.cache) == 1);
	CHECK(invlock_cache_close(fake.cache) == 0);
	invlock_mm_close(fake.mm);
}

static void *get_and_put(void *cache)
{
	struct invlock_pin pin;

	if (invlock_cache_get(cache, mem, PAGE, 0, &pin) || invlock_cache_put(&pin))
		return NULL;
	return cache;
}

/* The forking thread's record was wiped in the child, where another thread opens first. */
static void reopened_by_another_thread(void)
{
	struct invlock_pin pin;
	pthread_t thread;
	void *good;

	fake_open(&fake, NULL);
	CHECK(!pthread_create(&thread, NULL, get_and_put, fake.cache));
	CHECK(!pthread_join(thread, &good) && good);
	CHECK(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin) == 0);
	/* drop finds the region pinned, and leaves it registered */
	CHECK(invlock_cache_drop(fake.cache, mem, PAGE) == 1);
	CHECK(fake_is_live(&fake, pin.handle));
	CHECK(invlock_cache_put(&pin) == 0);
	CHECK(invlock_cache_reap(fake.cache) == 1);
}

static void reopened_while_the_old_one_is_still_there(void)
{
	struct fake_device second;
	struct invlock_pin pin;

	fake_open(&second, NULL);
	CHECK(invlock_cache_get(second.cache, mem, PAGE, 0, &pin) == 0);
	everything_is_dead();
	CHECK(invlock_cache_put(&pin) == 0);
	fake_close(&second);
}

static int setup(void **state)
{
	struct invlock_cache_options o = { .size = sizeof(o), .flags = INVLOCK_CACHE_REAPER };
	struct invlock_pin pin;

	(void)state;
	fake_open(&fake, &o);
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, 0, &held), 0);
	/* leaves a free slot behind, so that the parent's next get is a hit at once */
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin), 0);
	assert_int_equal(invlock_cache_put(&pin), 0);
	invlock_read_init(&translated, fake.mm, mem, PAGE, NULL, 0);
	assert_true(invlock_read_attempt(&translated));
	assert_true(invlock_read_commit(&translated));
	return 0;
}

static int teardown(void **state)
{
	struct invlock_pin pin;

	(void)state;
	/* The parent is not affected. */
	assert_true(invlock_read_valid(&translated));
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, INVLOCK_GET_CACHED, &pin), 0);
	assert_int_equal(pin.handle, held.handle);
	assert_int_equal(invlock_cache_put(&pin), 0);
	assert_int_equal(invlock_cache_put(&held), 0);
	invlock_read_end(&translated);
	fake_close(&fake);
	return 0;
}

TEST(a_forked_child_finds_everything_dead)
{
	in_child(everything_is_dead, false);
}

TEST(a_child_of_a_raw_clone_finds_everything_dead)
{
	in_child(everything_is_dead, true);
}

TEST(a_forked_child_closes_and_reopens)
{
	in_child(dead_then_reopened, false);
}

TEST(a_child_of_a_raw_clone_closes_and_reopens)
{
#ifdef __SANITIZE_THREAD__
	TEST_SKIP("ThreadSanitizer mixes up the threads of parent and child after clone");
#endif
	in_child(dead_then_reopened, true);
}

TEST(a_forked_child_may_open_before_it_closes)
{
	in_child(reopened_while_the_old_one_is_still_there, false);
}

TEST(in_a_forked_child_a_thread_gets_a_new_record)
{
#ifdef __SANITIZE_THREAD__
	TEST_SKIP("ThreadSanitizer does not tell a forked child's threads from the parent's");
#endif
	in_child(reopened_by_another_thread, false);
}

TEST(a_vfork_child_shares_the_mm_and_nothing_dies)
{
	volatile int err = 1, shared = 0;
	pid_t pid = vfork();

	if (!pid) {
		shared = 1;
		err = invlock_manual_start(fake.mm, mem + 64 * PAGE, PAGE);
		err |= invlock_manual_end(fake.mm, mem + 64 * PAGE, PAGE);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	if (!shared)
		TEST_SKIP("ThreadSanitizer and Valgrind make vfork() a fork()");
	assert_int_equal(err, 0);
}

static void run_true(void)
{
	execl("/bin/true", "true", NULL);
	_exit(1);
}

TEST(a_child_that_execs_does_not_disturb_the_parent)
{
	in_child(run_true, false);
}

static void forks_again(void)
{
	int status;
	pid_t pid;

	fake_open(&fake, NULL);
	pid = fork();
	if (!pid) {
		struct invlock_pin pin;

		CHECK(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin) == -EOWNERDEAD);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(status == 0);
	fake_close(&fake);
}

TEST(what_a_child_opened_is_dead_in_its_own_child)
{
	in_child(forks_again, false);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
