// SPDX-License-Identifier: MIT
/*
 * A signal handler changes the map in the middle of each public call: it replaces the memory on
 * which the calls work, and writes a number into it that was never used before.
 *
 * A registration is the number that reg() read. A hit is stale if its number is not the one in
 * memory. The two are compared with the signal blocked, so that nothing changes in between.
 */
#include <errno.h>
#include <invlock/manual.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include "calls.h"
#include "tests/test.h"

#define ROUNDS	100	/* lookups, and at least as many signals */

static struct rig rig;
static bool manual, deaf;
static volatile unsigned long number;	/* the number of the present memory */
static unsigned long nr_signals;	/* atomic */
static unsigned long nr_hits, nr_stale;
static bool stopped;			/* atomic */
static struct invlock_cache *numbers;	/* a cache whose registrations are numbers */

static int read_number(void *ctx, void *addr, size_t len, uint64_t *ret_handle)
{
	(void)ctx, (void)len;
	*ret_handle = *(volatile unsigned long *)addr;
	return 0;
}

static void forget_number(void *ctx, void *addr, size_t len, uint64_t handle)
{
	(void)ctx, (void)addr, (void)len, (void)handle;
}

static void change(__attribute__((unused)) int sig)
{
	int saved = errno;

	if (manual && !deaf)
		invlock_manual_start(rig.mm, rig.page, PAGE);
	/* replaced in one step: a hole could get memory of another thread */
	mmap(rig.page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
	     0);
	*(volatile unsigned long *)rig.page = ++number;
	if (manual && !deaf)
		invlock_manual_end(rig.mm, rig.page, PAGE);
	__atomic_add_fetch(&nr_signals, 1, __ATOMIC_RELAXED);
	errno = saved;
}

static unsigned long signals(void)
{
	return __atomic_load_n(&nr_signals, __ATOMIC_RELAXED);
}

/* one signal at a time, at whatever place of its code the thread is */
static void *send_signals(void *arg)
{
	while (!__atomic_load_n(&stopped, __ATOMIC_ACQUIRE)) {
		unsigned long nr = signals();

		pthread_kill(*(pthread_t *)arg, SIGUSR1);
		while (!__atomic_load_n(&stopped, __ATOMIC_ACQUIRE) && signals() == nr)
			sched_yield();
	}
	return NULL;
}

static void use(void)
{
	struct invlock_pin pin;
	sigset_t usr1, before;

	/* With signals coming, any result is right. */
	if (!invlock_cache_get(numbers, rig.page, PAGE, 0, &pin))
		invlock_cache_put(&pin);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, &before);
	if (!invlock_cache_get(numbers, rig.page, PAGE, INVLOCK_GET_CACHED, &pin)) {
		nr_hits++;
		nr_stale += pin.handle != *(volatile unsigned long *)rig.page;
		invlock_cache_put(&pin);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void open_rig(const char *monitor)
{
	struct invlock_cache_options options = { .size = sizeof(options), .need = NEED,
						 .ops = { read_number, forget_number } };
	struct sigaction sa = { .sa_handler = change, .sa_flags = SA_RESTART };

	rig_open_or_skip(&rig, monitor);
	assert_int_equal(invlock_cache_open(rig.mm, &options, &numbers, NULL), 0);
	manual = !strcmp(monitor, "manual");
	number = 0;
	nr_signals = nr_hits = nr_stale = 0;
	stopped = false;
	sigaction(SIGUSR1, &sa, NULL);
}

static void storm(const char *monitor)
{
	pthread_t self = pthread_self(), sender;
	unsigned long until;

	open_rig(monitor);
	assert_int_equal(pthread_create(&sender, NULL, send_signals, &self), 0);
	for (const struct public_call *call = calls; call->name; call++) {
		until = signals() + ROUNDS / 10;
		for (int i = 0; i < ROUNDS / 10 || signals() < until; i++)
			if (!call->make(&rig))
				fail_msg("%s", call->name);
	}
	until = signals() + ROUNDS;
	for (int i = 0; i < ROUNDS || signals() < until || !nr_hits; i++)
		use();
	__atomic_store_n(&stopped, true, __ATOMIC_RELEASE);
	pthread_join(sender, NULL);
	assert_int_equal(invlock_cache_close(numbers), 0);
	rig_close(&rig);
	print_message("# %lu signals, %lu hits, %lu stale\n", signals(), nr_hits, nr_stale);
}

TEST(with_the_manual_monitor_a_handler_that_changes_the_map_disturbs_no_call)
{
	storm("manual");
	assert_int_equal(nr_stale, 0);
}

TEST(with_the_uffd_monitor_a_handler_that_changes_the_map_disturbs_no_call)
{
	storm("uffd");
	assert_int_equal(nr_stale, 0);
}

TEST(with_the_bpf_monitor_a_handler_that_changes_the_map_disturbs_no_call)
{
	storm("bpf");
	assert_int_equal(nr_stale, 0);
}

TEST(a_handler_that_does_not_report_makes_hits_stale)
{
	deaf = true;
	storm("manual");
	deaf = false;
	assert_true(nr_stale > 0);
}

TEST_MAIN(.ends_with_failure = true)
