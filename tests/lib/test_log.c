// SPDX-License-Identifier: MIT
/* The log: what is told, how often, and in which context. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <invlock/cache.h>
#include <invlock/log.h>
#include <invlock/section.h>

#include "core/invalidate.h"
#include "lib/cache/cache_internal.h"
#include "lib/monitor/monitor.h"
#include "lib/page.h"
#include "tests/seccomp.h"
#include "tests/test.h"

#define MAX_TOLD	16

static struct told {
	enum invlock_log_event event;
	char text[512];
} told[MAX_TOLD];
static int nr_begun, nr_told;		/* calls of the function that have begun, and ended */
static struct invlock_cache *busy;	/* its lock must be free when something is told */
static bool mm_lock_was_held, cache_lock_was_held;

static void look_at_locks(void)
{
	if (mm_try_lock())
		mm_unlock();
	else
		mm_lock_was_held = true;
	if (!busy)
		return;
	if (pthread_mutex_trylock(&busy->lock))
		cache_lock_was_held = true;
	else
		pthread_mutex_unlock(&busy->lock);
}

static void remember(void *ctx, enum invlock_log_event event, const char *text)
{
	int nr = __atomic_fetch_add(&nr_begun, 1, __ATOMIC_SEQ_CST);

	if (ctx == told && nr < MAX_TOLD) {
		told[nr].event = event;
		snprintf(told[nr].text, sizeof(told[nr].text), "%s", text);
		look_at_locks();
	}
	/* Last: a test that waits for this goes on, and takes the locks itself. */
	__atomic_fetch_add(&nr_told, 1, __ATOMIC_SEQ_CST);
}

static int begin(void **state)
{
	(void)state;
	nr_begun = nr_told = 0;
	busy = NULL;
	mm_lock_was_held = cache_lock_was_held = false;
	return invlock_log_set(remember, told);
}

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx;
	(void)addr;
	*ret_handle = len;
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx;
	(void)addr;
	(void)len;
	(void)handle;
}

static struct invlock_mm *open_manual(void)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "manual" };
	struct invlock_mm *mm;

	assert_int_equal(invlock_mm_open(&o, &mm, NULL), 0);
	return mm;
}

static struct invlock_cache *open_cache(struct invlock_mm *mm, unsigned int flags)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .ops = { reg, dereg }, .flags = flags,
	};
	struct invlock_cache *cache;

	assert_int_equal(invlock_cache_open(mm, &o, &cache, NULL), 0);
	return cache;
}

static char memory[1 << 18] __attribute__((aligned(1 << 16)));

static int get(struct invlock_cache *cache)
{
	struct invlock_pin pin;
	int err = invlock_cache_get(cache, memory, 8, 0, &pin);

	return err ? err : invlock_cache_put(&pin);
}

static void expect(int nr, enum invlock_log_event event, const char *words)
{
	assert_int_equal(nr_told, nr);
	assert_int_equal(told[nr - 1].event, event);
	if (!strstr(told[nr - 1].text, words))
		fail_msg("\"%s\" does not say \"%s\"", told[nr - 1].text, words);
	assert_null(strchr(told[nr - 1].text, '\n'));
	assert_false(mm_lock_was_held);
	assert_false(cache_lock_was_held);
}

TEST(an_open_tells_which_monitor_was_opened)
{
	struct invlock_mm *mm = open_manual();

	expect(1, INVLOCK_LOG_OPENED, "monitor manual is open");
	invlock_mm_close(mm);
	assert_int_equal(nr_told, 1);
}

TEST(an_open_that_chooses_tells_which_monitors_it_has_passed_over)
{
	struct invlock_mm_options o = { .size = sizeof(o), .need = INVLOCK_KINDS_UFFD };
	const char *preloaded = getenv("LD_PRELOAD");
	struct invlock_mm *mm;

	if (preloaded && strstr(preloaded, "vgpreload"))
		TEST_SKIP("Valgrind takes what libbpf gives the kernel for uninitialised");
	if (invlock_mm_open(&o, &mm, NULL))
		TEST_SKIP("no monitor works here");
	if (mm->monitor == monitors[0])
		TEST_SKIP("the monitor that is preferred works here");
	expect(1, INVLOCK_LOG_OPENED, "why this one: kmod: ");
	invlock_mm_close(mm);
}

TEST(an_open_that_fails_tells_nothing_because_it_returns_the_reason)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "none" };
	struct invlock_mm *mm;

	assert_int_equal(invlock_mm_open(&o, &mm, NULL), -EINVAL);
	assert_int_equal(nr_told, 0);
}

TEST(a_closed_feed_is_told_once_by_the_first_that_finds_it)
{
	struct invlock_mm *mm = open_manual();
	struct invlock_cache *cache = open_cache(mm, INVLOCK_CACHE_NO_REAPER);
	struct invlock_mm_info info = { .size = sizeof(info) };
	struct invlock_read rd;

	busy = cache;
	assert_int_equal(get(cache), 0);
	assert_int_equal(nr_told, 1);
	invlock_close_feed(&mm->il, INVLOCK_FEED_DEGRADED);
	assert_int_equal(nr_told, 1);
	assert_int_equal(get(cache), -ENOTRECOVERABLE);
	expect(2, INVLOCK_LOG_CLOSED, "the feed of monitor manual is closed");
	assert_int_equal(get(cache), -ENOTRECOVERABLE);
	assert_int_equal(invlock_mm_info(mm, &info), 0);
	invlock_read_init(&rd, mm, memory, 8, NULL, 0);
	assert_false(invlock_read_attempt(&rd));
	invlock_read_end(&rd);
	assert_int_equal(nr_told, 2);
	assert_int_equal(invlock_cache_close(cache), 0);
	invlock_mm_close(mm);
}

TEST(a_read_section_finds_a_closed_feed_as_well)
{
	struct invlock_mm *mm = open_manual();
	struct invlock_read rd;

	invlock_close_feed(&mm->il, INVLOCK_FEED_DEGRADED);
	invlock_read_init(&rd, mm, memory, 8, NULL, 0);
	assert_false(invlock_read_attempt(&rd));
	expect(2, INVLOCK_LOG_CLOSED, "closed");
	invlock_read_end(&rd);
	invlock_mm_close(mm);
}

TEST(the_reaper_finds_a_closed_feed_while_the_program_does_nothing)
{
	struct invlock_mm *mm = open_manual();
	struct invlock_cache *cache = open_cache(mm, 0);
	u64 give_up = port_now() + 60000000000ULL;

	/* before the reaper takes the lock of the cache */
	busy = cache;
	assert_int_equal(get(cache), 0);
	invlock_close_feed(&mm->il, INVLOCK_FEED_DEGRADED);
	while (__atomic_load_n(&nr_told, __ATOMIC_SEQ_CST) < 2 && port_now() < give_up)
		usleep(1000);
	/* the reaper may still be in the function */
	assert_int_equal(invlock_cache_close(cache), 0);
	busy = NULL;
	expect(2, INVLOCK_LOG_CLOSED, "closed");
	invlock_mm_close(mm);
}

TEST(a_timer_whose_descriptor_was_closed_is_told)
{
	struct invlock_mm *mm = open_manual();
	struct invlock_cache *cache = open_cache(mm, INVLOCK_CACHE_NO_REAPER);

	busy = cache;
	close(invlock_cache_fd(cache));
	assert_int_equal(get(cache), 0);
	/* the next one that looks */
	assert_int_equal(invlock_cache_drop(cache, memory, sizeof(memory)), 1);
	expect(2, INVLOCK_LOG_KEPT, "closed the descriptor");
	assert_int_equal(get(cache), 0);
	assert_int_equal(invlock_cache_drop(cache, memory, sizeof(memory)), 1);
	assert_int_equal(nr_told, 2);
	assert_int_equal(invlock_cache_close(cache), 0);
	invlock_mm_close(mm);
}

static int got[2];

/* A thread that has used the cache, and goes on to live. */
static void *get_and_stay(void *cache)
{
	bool well = !get(cache) && write(got[1], "", 1) == 1;

	while (well)
		pause();
	return NULL;
}

static int lose_the_barrier(void)
{
	struct invlock_mm *mm = open_manual();
	struct invlock_cache *cache = open_cache(mm, INVLOCK_CACHE_NO_REAPER);
	pthread_t thread;
	char byte;

	busy = cache;
	if (get(cache) || pipe(got) || pthread_create(&thread, NULL, get_and_stay, cache) ||
	    read(got[0], &byte, 1) != 1)
		return 1;
	if (!refuse_calls((long[]){ SYS_membarrier }, 1))
		return 77;
	invlock_cache_drop(cache, memory, sizeof(memory));
	return nr_told == 2 && told[1].event == INVLOCK_LOG_KEPT && !cache_lock_was_held &&
	       strstr(told[1].text, "membarrier") ? 0 : port_barrier_is_light ? 2 : 78;
}

TEST(registrations_that_cannot_be_deregistered_are_told)
{
	unsigned char result = 255;
	int said[2];
	pid_t pid;

	assert_int_equal(pipe(said), 0);
	pid = fork();
	if (!pid) {
		result = lose_the_barrier();
		/* Not by an exit: with the parent's threads missing, Valgrind finds leaks. */
		if (write(said[1], &result, 1) == 1)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	close(said[1]);
	assert_int_equal(read(said[0], &result, 1), 1);
	close(said[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	if (result == 77)
		TEST_SKIP("no seccomp filter can be had here");
	if (result == 78)
		TEST_SKIP("this machine has no membarrier()");
	assert_int_equal(result, 0);
}

static void log_and_open(void *ctx, enum invlock_log_event event, const char *text)
{
	struct invlock_mm *mm = open_manual();

	remember(ctx, event, text);
	invlock_mm_close(mm);
}

TEST(a_function_that_calls_the_library_is_not_called_from_itself)
{
	struct invlock_mm *mm;

	assert_int_equal(invlock_log_set(log_and_open, told), 0);
	mm = open_manual();
	assert_int_equal(nr_told, 1);
	invlock_mm_close(mm);
}

TEST(without_a_function_nobody_is_told)
{
	struct invlock_mm *mm;

	assert_int_equal(invlock_log_set(NULL, NULL), 0);
	mm = open_manual();
	invlock_mm_close(mm);
	assert_int_equal(nr_told, 0);
}

TEST_MAIN(.setup = begin)
