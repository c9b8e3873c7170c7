// SPDX-License-Identifier: MIT
/*
 * The cache on many threads: every hit is a live registration that no reported change made stale,
 * while other threads change, evict, drop, reap, exit, are cancelled, and take signals.
 *
 * How a stale use is found: each page has a version, which the changing thread raises between the
 * reported start and end. reg() remembers the version of its page. A pin is stale if its
 * registration has an older version than the one that the thread read before its get.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/lib/rig.h"

#define NR_PAGES	64
#define ROUNDS		30000
#define CHANGES		2000	/* a storm goes on until it has seen this many changes */

static struct fake_device fake;
static char *const mem = (char *)0x100000000;
static unsigned int version[NR_PAGES];			/* atomics */
static unsigned int registered[FAKE_HANDLES];		/* the page's version, by handle */
static unsigned int nr_stale, nr_not_live, nr_hits, nr_changes;	/* atomics */
static bool stop;

static unsigned int page_of(const void *addr)
{
	return ((char *)addr - mem) / PAGE % NR_PAGES;
}

static int versioned_reg(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	unsigned int v = __atomic_load_n(&version[page_of(addr)], __ATOMIC_ACQUIRE);
	int err = fake_reg(ctx, addr, len, ret_handle);

	__atomic_store_n(&registered[*ret_handle], v, __ATOMIC_RELAXED);
	return err;
}

static void open_versioned(unsigned int max_entries, unsigned int flags)
{
	struct invlock_mm_options mo = { .size = sizeof(mo), .monitor = "manual" };
	struct invlock_cache_options co = {
		.size = sizeof(co), .flags = flags ? flags : INVLOCK_CACHE_NO_REAPER,
		.ops = { versioned_reg, fake_dereg },
		.ctx = &fake, .max_entries = max_entries, .reap_ms = 1,
	};

	memset(&fake, 0, sizeof(fake));
	nr_stale = nr_not_live = nr_hits = nr_changes = 0;
	assert_int_equal(invlock_mm_open(&mo, &fake.mm, NULL), 0);
	assert_int_equal(invlock_cache_open(fake.mm, &co, &fake.cache, NULL), 0);
}

static void get_check_put(unsigned int page)
{
	unsigned int before = __atomic_load_n(&version[page], __ATOMIC_ACQUIRE);
	struct invlock_pin pin;

	if (invlock_cache_get(fake.cache, mem + page * PAGE, PAGE, 0, &pin))
		return;
	if ((int)(__atomic_load_n(&registered[pin.handle], __ATOMIC_RELAXED) - before) < 0)
		__atomic_add_fetch(&nr_stale, 1, __ATOMIC_RELAXED);
	if (!fake_is_live(&fake, pin.handle))
		__atomic_add_fetch(&nr_not_live, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&nr_hits, 1, __ATOMIC_RELAXED);
	invlock_cache_put(&pin);
}

static void *user(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS || __atomic_load_n(&nr_changes, __ATOMIC_RELAXED) < CHANGES; i++)
		get_check_put((unsigned int)rand_r(&seed) % NR_PAGES);
	return NULL;
}

static void change_page(unsigned int page)
{
	invlock_manual_start(fake.mm, mem + page * PAGE, PAGE);
	__atomic_add_fetch(&version[page], 1, __ATOMIC_RELEASE);
	invlock_manual_end(fake.mm, mem + page * PAGE, PAGE);
	__atomic_add_fetch(&nr_changes, 1, __ATOMIC_RELAXED);
}

static void *changer(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		change_page((unsigned int)rand_r(&seed) % NR_PAGES);
		if (rand_r(&seed) % 64 == 0)
			usleep(50);
	}
	return NULL;
}

static void *meddler(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		invlock_cache_drop(fake.cache, mem + rand_r(&seed) % NR_PAGES * PAGE, 3 * PAGE);
		invlock_cache_reap(fake.cache);
		usleep(20);
	}
	return NULL;
}

static void storm(void)
{
	pthread_t users[3], c, m;

	stop = false;
	assert_int_equal(pthread_create(&c, NULL, changer, (void *)1), 0);
	assert_int_equal(pthread_create(&m, NULL, meddler, (void *)2), 0);
	for (uintptr_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&users[i], NULL, user, (void *)(i + 10)), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(users[i], NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(c, NULL);
	pthread_join(m, NULL);
}

TEST(no_hit_is_stale_or_deregistered_in_a_storm)
{
	open_versioned(0, INVLOCK_CACHE_REAPER);
	storm();
	assert_true(nr_hits > ROUNDS);
	assert_int_equal(nr_stale, 0);
	assert_int_equal(nr_not_live, 0);
	fake_close(&fake);
}

TEST(no_hit_is_stale_or_deregistered_while_entries_are_evicted)
{
	open_versioned(16, 0);
	storm();
	assert_true(nr_hits > ROUNDS);
	assert_int_equal(nr_stale, 0);
	assert_int_equal(nr_not_live, 0);
	assert_true(fake_stats(&fake).evicted > 0);
	fake_close(&fake);
}

TEST_PLANTED(no_check, the_storm_finds_stale_hits_when_the_check_is_off)
{
	open_versioned(0, 0);
	for (int storms = 0; !nr_stale && storms < 100; storms++)
		storm();
	assert_true(nr_stale > 0);
	fake_close(&fake);
}

static void *put_here(void *pin)
{
	assert_int_equal(invlock_cache_put(pin), 0);
	return NULL;
}

TEST(a_pin_may_be_put_on_another_thread)
{
	struct invlock_pin pin;
	pthread_t t;

	open_versioned(0, 0);
	assert_int_equal(invlock_cache_get(fake.cache, mem, PAGE, 0, &pin), 0);
	assert_int_equal(pthread_create(&t, NULL, put_here, &pin), 0);
	pthread_join(t, NULL);
	fake_close(&fake);
}

static struct invlock_pin left_behind[8];

static void *get_and_exit(void *arg)
{
	uintptr_t i = (uintptr_t)arg;

	if (invlock_cache_get(fake.cache, mem + i * PAGE, PAGE, 0, &left_behind[i]))
		abort();
	pthread_exit(NULL);
}

TEST(a_pin_outlives_the_thread_that_took_it)
{
	open_versioned(0, 0);
	for (uintptr_t i = 0; i < 8; i++) {
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, get_and_exit, (void *)i), 0);
		pthread_join(t, NULL);
		change_page((unsigned int)i);
	}
	assert_int_equal(invlock_cache_reap(fake.cache), 0);
	for (int i = 0; i < 8; i++) {
		assert_true(fake_is_live(&fake, left_behind[i].handle));
		assert_int_equal(invlock_cache_put(&left_behind[i]), 0);
	}
	assert_int_equal(invlock_cache_reap(fake.cache), 8);
	fake_close(&fake);
}

static void *until_cancelled(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	for (;;) {
		get_check_put((unsigned int)rand_r(&seed) % NR_PAGES);
		pthread_testcancel();
	}
	return NULL;
}

static void slow_reg(struct fake_device *t, void *addr, size_t len)
{
	(void)t, (void)addr, (void)len;
	usleep(100);	/* a cancellation point: no thread may be cancelled inside reg() */
}

TEST(cancelled_threads_leave_nothing_locked_registered_or_pinned)
{
	open_versioned(0, 0);
	fake.during_reg = slow_reg;
	for (uintptr_t i = 0; i < 100; i++) {
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, until_cancelled, (void *)i), 0);
		change_page((unsigned int)i % NR_PAGES);
		usleep(i * 13 % 400);
		pthread_cancel(t);
		pthread_join(t, NULL);
	}
	fake.during_reg = NULL;
	assert_true(nr_hits > 0);
	fake_close(&fake);
}

static unsigned int nr_signals;

/*
 * One signal, a little later. A timer that repeats by itself would leave the thread no time between
 * the signals where the handler takes as long as that.
 */
static void signal_soon(void)
{
	const struct itimerval once = { .it_value.tv_usec = 200 };

	setitimer(ITIMER_REAL, &once, NULL);
}

/* A real unmap and a reported change, at any place in the interrupted thread's code. */
static void unmap_in_handler(int sig)
{
	void *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)sig;
	munmap(p, PAGE);
	change_page(nr_signals++ % NR_PAGES);
	signal_soon();
}

TEST(a_signal_handler_that_unmaps_during_any_call_hangs_nothing)
{
	struct sigaction sa = { .sa_handler = unmap_in_handler, .sa_flags = SA_RESTART };

	open_versioned(0, INVLOCK_CACHE_REAPER);
	sigaction(SIGALRM, &sa, NULL);
	signal_soon();
	user((void *)1);
	/* Not SIG_DFL: a signal is still on its way. */
	signal(SIGALRM, SIG_IGN);
	assert_true(nr_signals > 0);
	assert_int_equal(nr_stale, 0);
	assert_int_equal(nr_not_live, 0);
	fake_close(&fake);
}

static pthread_key_t late_key;

static void get_in_destructor(void *again)
{
	get_check_put(1);
	if (again)
		pthread_setspecific(late_key, NULL);
}

static void *with_destructor(void *arg)
{
	(void)arg;
	get_check_put(0);
	pthread_setspecific(late_key, (void *)1);
	return NULL;
}

TEST(a_get_in_another_librarys_thread_destructor_works)
{
	open_versioned(0, 0);
	assert_int_equal(pthread_key_create(&late_key, get_in_destructor), 0);
	for (int i = 0; i < 50; i++) {
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, with_destructor, NULL), 0);
		pthread_join(t, NULL);
	}
	pthread_key_delete(late_key);
	assert_int_equal(nr_hits, 100);
	fake_close(&fake);
}

TEST_MAIN()
