// SPDX-License-Identifier: MIT
/*
 * Dead entries are deregistered by gets that register, by the reaper, or in the program's own loop.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/cache/thread.h"
#include "tests/seccomp.h"
#include "tests/test.h"
#include "tests/threads.h"
#include "tests/lib/rig.h"

#define NR_CACHES	20
#define EXIT_SKIP	77

static struct fake_device fake;
/* nobody accesses these addresses: the fake device registers without looking */
static char *const mem = (char *)0x100000000;

static const struct invlock_cache_options by_default = {
	.size = sizeof(by_default), .ops = { fake_reg, fake_dereg }, .ctx = &fake,
};
static const struct invlock_cache_options often = {
	.size = sizeof(often), .flags = INVLOCK_CACHE_REAPER, .reap_ms = 1,
};

static void register_page(struct invlock_cache *cache, char *at)
{
	struct invlock_pin pin;

	if (invlock_cache_get(cache, at, PAGE, 0, &pin) || invlock_cache_put(&pin))
		abort();
}

static void wait_until_none_is_live(void)
{
	while (port_load(&fake.nr_live))
		usleep(1000);
}

/* Runs in a forked child, where asserts do not work, and must return 0. */
static void in_child(int (*run)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid)
		exit(run());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
		TEST_SKIP("no seccomp filter can be had here");
	assert_int_equal(status, 0);
}

/*
 * Runs after the library's own exit handler, because it is registered earlier. Therefore this test
 * comes first, when no cache has been opened in this process.
 */
static void nothing_more_is_deregistered(void)
{
	fake_change(&fake, mem, PAGE);
	usleep(100000);
	if (!port_load(&fake.nr_live))
		_exit(1);
}

static int exit_with_an_open_cache(void)
{
	atexit(nothing_more_is_deregistered);
	fake_open(&fake, &often);
	register_page(fake.cache, mem);
	return 0;
}

TEST(a_process_that_exits_gets_no_more_calls_of_dereg)
{
	in_child(exit_with_an_open_cache);
}

TEST(by_default_a_cache_deregisters_dead_entries_by_itself)
{
	struct invlock_cache *cache;

	fake_open(&fake, NULL);
	assert_int_equal(invlock_cache_open(fake.mm, &by_default, &cache, NULL), 0);
	for (int i = 0; i < 10; i++)
		register_page(cache, mem + i * PAGE);
	fake_change(&fake, mem, 9 * PAGE);
	/* No call of ours is needed: either the reaper does it, or the test times out. */
	while (port_load(&fake.nr_live) != 1)
		usleep(1000);
	assert_int_equal(invlock_cache_close(cache), 0);
	fake_close(&fake);
}

TEST(all_caches_of_a_process_share_one_reaper_which_ends_with_the_last)
{
	struct invlock_cache *caches[NR_CACHES];

	fake_open(&fake, NULL);
	await_no_thread("invlock-reaper");
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < NR_CACHES; i++) {
			assert_int_equal(invlock_cache_open(fake.mm, &by_default, &caches[i], NULL),
					 0);
			register_page(caches[i], mem + i * PAGE);
		}
		/* a thread gets its name a moment after its start */
		while (!threads_named("invlock-reaper", NULL))
			usleep(1000);
		assert_int_equal(threads_named("invlock-reaper", NULL), 1);
		fake_change(&fake, mem, NR_CACHES * PAGE);
		wait_until_none_is_live();
		for (int i = 0; i < NR_CACHES; i++)
			assert_int_equal(invlock_cache_close(caches[i * 7 % NR_CACHES]), 0);
		await_no_thread("invlock-reaper");
	}
	fake_close(&fake);
}

TEST(a_cache_that_wants_no_reaper_gets_a_descriptor_instead)
{
	struct invlock_cache_options o = by_default;
	struct invlock_cache *cache;
	struct invlock_why why;

	/* the rig opens a cache without a reaper */
	fake_open(&fake, NULL);
	await_no_thread("invlock-reaper");
	assert_true(invlock_cache_fd(fake.cache) >= 0);
	assert_int_equal(invlock_cache_open(fake.mm, &o, &cache, NULL), 0);
	assert_int_equal(invlock_cache_fd(cache), -EBADF);
	assert_int_equal(invlock_cache_close(cache), 0);
	o.flags = INVLOCK_CACHE_REAPER | INVLOCK_CACHE_NO_REAPER;
	assert_int_equal(invlock_cache_open(fake.mm, &o, &cache, &why), -EINVAL);
	assert_non_null(strstr(why.text, "reaper"));
	fake_close(&fake);
}

TEST(gets_that_register_keep_the_number_of_dead_entries_small)
{
	unsigned int most = 0;

	fake_open(&fake, NULL);
	/* Most entries are valid, and these must stay. */
	for (int i = 0; i < 100; i++)
		register_page(fake.cache, mem + i * PAGE);
	for (int i = 1000; i < 3000; i++) {
		register_page(fake.cache, mem + i * PAGE);
		fake_change(&fake, mem + i * PAGE, PAGE);
		if (fake.nr_live > most)
			most = fake.nr_live;
	}
	/*
	 * An eighth of the entries may be dead, and one pass over all of them finds those that are
	 * stale.
	 */
	assert_in_range(most, 101, 150);
	assert_int_equal(fake_stats(&fake).collided, 0);
	for (int i = 0; i < 100; i++)
		register_page(fake.cache, mem + i * PAGE);
	assert_int_equal(fake_stats(&fake).hits, 100);
	fake_close(&fake);
}

TEST(dead_entries_that_stay_pinned_are_not_scanned_by_each_get)
{
	struct invlock_pin pins[50];
	u64 nr_scans;

	fake_open(&fake, NULL);
	for (int i = 0; i < 50; i++)
		assert_int_equal(invlock_cache_get(fake.cache, mem + i * PAGE, PAGE, 0, &pins[i]),
				 0);
	assert_int_equal(invlock_cache_drop(fake.cache, mem, 50 * PAGE), 50);
	/* each scan of the pins begins with this question */
	nr_scans = port_load(&thread_registry->nr_asked);
	for (int i = 100; i < 200; i++)
		register_page(fake.cache, mem + i * PAGE);
	assert_int_equal(fake_stats(&fake).dead, 50);
	assert_true(port_load(&thread_registry->nr_asked) - nr_scans < 10);
	for (int i = 0; i < 50; i++)
		assert_int_equal(invlock_cache_put(&pins[i]), 0);
	assert_int_equal(invlock_cache_reap(fake.cache), 50);
	fake_close(&fake);
}

/* ---- calls that dereg() may make on the reaper's thread ---- */

static u32 inside, left;

static void open_and_close(struct fake_device *t, void *addr, size_t len)
{
	struct invlock_cache *cache;
	struct invlock_mm_options mo = { .size = sizeof(mo), .monitor = "manual" };
	struct invlock_mm *mm;

	(void)addr, (void)len;
	if (invlock_mm_open(&mo, &mm, NULL) || invlock_cache_open(mm, &by_default, &cache, NULL) ||
	    invlock_cache_close(cache))
		port_fetch_add(&t->nr_wrong, 1);
	invlock_mm_close(mm);
}

TEST(a_dereg_on_the_reapers_thread_may_open_and_close_other_caches)
{
	fake_open(&fake, &often);
	fake.during_dereg = open_and_close;
	for (int i = 0; i < 20; i++) {
		register_page(fake.cache, mem);
		fake_change(&fake, mem, PAGE);
		wait_until_none_is_live();
	}
	/* The same while the cache is being closed. */
	register_page(fake.cache, mem);
	fake_change(&fake, mem, PAGE);
	fake_close(&fake);
}

static void be_slow(struct fake_device *t, void *addr, size_t len)
{
	(void)t, (void)addr, (void)len;
	port_store_release(&inside, 1);
	usleep(50000);
	port_store_release(&left, 1);
}

TEST(a_close_waits_for_a_dereg_that_is_running_on_the_reapers_thread)
{
	struct invlock_cache *another;

	inside = left = 0;
	fake_open(&fake, &often);
	/* another cache is open, so the reaper does not end with this one */
	assert_int_equal(invlock_cache_open(fake.mm, &by_default, &another, NULL), 0);
	fake.during_dereg = be_slow;
	register_page(fake.cache, mem);
	fake_change(&fake, mem, PAGE);
	while (!port_load_acquire(&inside))
		usleep(100);
	assert_int_equal(invlock_cache_close(fake.cache), 0);
	assert_int_equal(port_load_acquire(&left), 1);
	assert_int_equal(fake.nr_dereg, 1);
	assert_int_equal(fake.nr_wrong, 0);
	assert_int_equal(invlock_cache_close(another), 0);
	invlock_mm_close(fake.mm);
}

/* ---- surroundings in which a reaper is harder to run ---- */

static int reap_without_timers(void)
{
	const long refused[] = { SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime };

	fake_open(&fake, &often);
	if (!refuse_calls(refused, 3))
		return EXIT_SKIP;
	register_page(fake.cache, mem);
	fake_change(&fake, mem, PAGE);
	wait_until_none_is_live();
	return invlock_cache_close(fake.cache) ? 1 : 0;
}

TEST(a_sandbox_that_refuses_timers_does_not_stop_the_reaper)
{
	in_child(reap_without_timers);
}

static int reap_in_child(void)
{
	static struct fake_device of_child;
	struct fake_device *own = &of_child;

	fake_open(own, &often);
	register_page(own->cache, mem);
	fake_change(own, mem, PAGE);
	while (port_load(&own->nr_live))
		usleep(1000);
	fake_close(own);
	return invlock_cache_close(fake.cache) ? 1 : 0;
}

TEST(a_forked_child_has_a_reaper_of_its_own_for_what_it_opens)
{
#ifdef __SANITIZE_THREAD__
	TEST_SKIP("ThreadSanitizer lets no child of a process with threads start one");
#endif
	fake_open(&fake, &often);
	register_page(fake.cache, mem);
	in_child(reap_in_child);
	fake_change(&fake, mem, PAGE);
	wait_until_none_is_live();
	fake_close(&fake);
}

TEST_MAIN(.ends_with_failure = true)
