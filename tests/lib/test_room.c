// SPDX-License-Identifier: MIT
/* Room in the cache's limits and in the device's, also while another thread is making it. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <invlock/cache.h>

#include "tests/test.h"

#define PATIENCE_NS	100000000000

static struct invlock_mm *mm;
static struct invlock_cache *cache;
static char *const mem = (char *)0x100000000;
static atomic_ulong bytes, max_bytes;		/* of the device */
/* the next call takes its time; it has begun; another thread has begun to ask for room */
static atomic_bool slow_reg, slow_dereg, is_inside, asked;

static void take_time(void)
{
	atomic_store(&is_inside, true);
	while (!atomic_load(&asked))
		sched_yield();
	/* The other thread finds no room, or nothing to drop. If it comes late, it does. */
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

static int reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx;
	(void)addr;
	if (atomic_load(&bytes) + len > atomic_load(&max_bytes))
		return -ENOMEM;
	atomic_fetch_add(&bytes, len);
	if (atomic_exchange(&slow_reg, false))
		take_time();
	*ret_handle = 0;
	return 0;
}

static void dereg(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx;
	(void)addr;
	(void)handle;
	if (atomic_exchange(&slow_dereg, false))
		take_time();
	atomic_fetch_sub(&bytes, len);
}

static int setup(void **state)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "manual" };

	(void)state;
	atomic_store(&max_bytes, ~0UL);
	atomic_store(&is_inside, false);
	atomic_store(&asked, false);
	return invlock_mm_open(&o, &mm, NULL);
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(invlock_cache_close(cache), 0);
	invlock_mm_close(mm);
	assert_int_equal(bytes, 0);
	return 0;
}

static void open_cache(unsigned int max_entries)
{
	struct invlock_cache_options o = {
		.size = sizeof(o), .flags = INVLOCK_CACHE_NO_REAPER, .ops = { reg, dereg },
		.max_entries = max_entries, .time_ns = PATIENCE_NS,
	};

	assert_int_equal(invlock_cache_open(mm, &o, &cache, NULL), 0);
}

static int get_and_put(char *addr, size_t len)
{
	struct invlock_pin pin;
	int err = invlock_cache_get(cache, addr, len, 0, &pin);

	return err ? err : invlock_cache_put(&pin);
}

static void *drop_first_page(__attribute__((unused)) void *arg)
{
	invlock_cache_drop(cache, mem, PAGE);
	return NULL;
}

/* Another thread is deregistering the first page when this returns. */
static pthread_t begin_slow_drop(void)
{
	pthread_t thread;

	assert_int_equal(get_and_put(mem, PAGE), 0);
	atomic_store(&slow_dereg, true);
	assert_int_equal(pthread_create(&thread, NULL, drop_first_page, NULL), 0);
	while (!atomic_load(&is_inside))
		sched_yield();
	return thread;
}

/* Another page needs the room of the one that is being deregistered. */
static void get_beside_slow_drop(void)
{
	pthread_t thread = begin_slow_drop();

	atomic_store(&asked, true);
	assert_int_equal(get_and_put(mem + PAGE, PAGE), 0);
	pthread_join(thread, NULL);
}

TEST(a_get_waits_for_the_entry_that_another_thread_deregisters)
{
	open_cache(1);
	get_beside_slow_drop();
}

TEST(a_get_waits_for_the_memory_that_another_thread_deregisters)
{
	open_cache(0);
	atomic_store(&max_bytes, PAGE);
	get_beside_slow_drop();
}

TEST(a_drop_waits_for_what_another_thread_deregisters)
{
	pthread_t thread;

	open_cache(0);
	thread = begin_slow_drop();
	atomic_store(&asked, true);
	assert_int_equal(invlock_cache_drop(cache, mem, PAGE), 0);
	assert_int_equal(bytes, 0);
	pthread_join(thread, NULL);
}

static void *get_two_pages(void *ret_err)
{
	*(int *)ret_err = get_and_put(mem, 2 * PAGE);
	return NULL;
}

/* Two threads get the same memory at the same time, and there is room for one registration. */
static void get_twice(void)
{
	pthread_t thread;
	int err;

	atomic_store(&slow_reg, true);
	assert_int_equal(pthread_create(&thread, NULL, get_two_pages, &err), 0);
	while (!atomic_load(&is_inside))
		sched_yield();
	atomic_store(&asked, true);
	assert_int_equal(get_and_put(mem + PAGE, PAGE), 0);
	pthread_join(thread, NULL);
	assert_int_equal(err, 0);
}

TEST(a_get_without_an_entry_left_waits_for_the_one_that_another_thread_registers)
{
	open_cache(1);
	get_twice();
}

TEST(a_get_without_memory_waits_for_what_another_thread_registers)
{
	open_cache(0);
	atomic_store(&max_bytes, 2 * PAGE);
	get_twice();
}

TEST(a_large_registration_takes_the_memory_of_many_small_ones)
{
	open_cache(0);
	atomic_store(&max_bytes, 64 * PAGE);
	for (int i = 0; i < 64; i++)
		assert_int_equal(get_and_put(mem + 2 * i * PAGE, PAGE), 0);
	assert_int_equal(get_and_put(mem + 1000 * PAGE, 40 * PAGE), 0);
	/* not more of them than it takes */
	assert_int_equal(bytes, 64 * PAGE);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
