// SPDX-License-Identifier: MIT
/*
 * The monitor for libfabric, called as libfabric calls it, with real changes of real memory. A
 * registration of this fake is the version that the memory had when it was made.
 */
#include <pthread.h>
#include <rdma/fi_errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <invlock/mm.h>

#include "adapters/ofi/monitor.h"
#include "adapters/ofi/quiet.h"
#include "tests/child.h"
#include "tests/test.h"

#define DOMAINS	3
#define RANGES	8
#define LEN	(4 * PAGE)

static uint32_t version_of_libfabric;

uint32_t fi_version(void)
{
	return version_of_libfabric;
}

static atomic_int hours_ahead;	/* that CLOCK_REALTIME is, before somebody sets it right */

int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	int err = (int)syscall(SYS_clock_gettime, clock, ret_time);

	if (!err && clock == CLOCK_REALTIME)
		ret_time->tv_sec += 3600 * atomic_load(&hours_ahead);
	return err;
}

static struct {
	bool cached;
	unsigned int version;
} domains[DOMAINS][RANGES];		/* guarded by lock, as libfabric's caches are */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *mem;
static unsigned int versions[RANGES];	/* of the memory; changed by the test's thread */
static unsigned int nr_hits, nr_registered, nr_stale, nr_dropped, nr_failed;
static bool change_before_subscribe;

#define OPS	(ofi_monitor.export_ops)

static void *at(int range)
{
	return mem + range * LEN;
}

static bool unsubscribes(void)
{
	return FI_VERSION_GE(version_of_libfabric, FI_VERSION(2, 1));
}

/* Locks: held */
static void drop(int domain, int range)
{
	if (!domains[domain][range].cached)
		return;
	domains[domain][range].cached = false;
	nr_dropped++;
	if (unsubscribes())
		OPS->unsubscribe(&ofi_monitor, at(range), LEN);
}

static void notify(__attribute__((unused)) struct fid_mem_monitor *monitor, const void *addr,
		   __attribute__((unused)) size_t len)
{
	pthread_mutex_lock(&lock);
	for (int domain = 0; domain < DOMAINS; domain++)
		for (int range = 0; range < RANGES; range++)
			if (at(range) == addr)
				drop(domain, range);
	pthread_mutex_unlock(&lock);
}

static struct fi_ops_mem_notify notify_ops = { .size = sizeof(notify_ops), .notify = notify };

static void change(int range)
{
	assert_int_equal(madvise(at(range), LEN, MADV_DONTNEED), 0);
	versions[range]++;
}

/* what libfabric does for a message, on any thread */
static void use(int domain, int range)
{
	pthread_mutex_lock(&lock);
	if (domains[domain][range].cached && OPS->valid(&ofi_monitor, at(range), LEN)) {
		nr_hits++;
		nr_stale += domains[domain][range].version != versions[range];
		pthread_mutex_unlock(&lock);
		return;
	}
	drop(domain, range);
	nr_registered++;
	domains[domain][range].cached = true;
	domains[domain][range].version = versions[range];
	if (change_before_subscribe)
		change(range);
	nr_failed += OPS->subscribe(&ofi_monitor, at(range), LEN) != 0;
	pthread_mutex_unlock(&lock);
}

static void sleep_a_little(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

/* Waits until the reaper has found all registrations good, and so answers for all of them. */
static void wait_until_quiet(void)
{
	while (!is_quiet())
		sleep_a_little();
}

static void start(uint32_t version)
{
	version_of_libfabric = version;
	memset(domains, 0, sizeof(domains));
	nr_hits = nr_registered = nr_stale = nr_dropped = nr_failed = 0;
	change_before_subscribe = false;
	ofi_monitor.import_ops = &notify_ops;
	mem = mmap(NULL, RANGES * LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (OPS->start(&ofi_monitor))
		TEST_SKIP("no monitor here sees every change, as stderr says");
	/* what the C library and a sanitizer map for the reaper has been mapped then */
	wait_until_quiet();
}

static void stop(void)
{
	OPS->stop(&ofi_monitor);
	munmap(mem, RANGES * LEN);
	assert_int_equal(nr_stale, 0);
	assert_int_equal(nr_failed, 0);
}

static const uint32_t all_versions[] = { FI_VERSION(1, 17), FI_VERSION(2, 1) };
#define for_each_version(v)						\
	for (int v = 0; v < (int)(sizeof(all_versions) / sizeof(*all_versions)); v++)

/*
 * Another thread may change the map as well, such as one of a sanitizer. What is registered
 * meanwhile is not trusted, and rightly so; but that does not happen each time.
 */
static bool comes_true(bool (*f)(uint32_t version), uint32_t version)
{
	for (int i = 0; i < 100; i++)
		if (f(version))
			return true;
	return false;
}

static bool registers_twice_and_then_hits(uint32_t version)
{
	bool good;

	start(version);
	for (int i = 0; i < 10; i++)
		use(0, 0);
	good = nr_registered == 2 && nr_hits == 8;
	change(0);
	use(0, 0);
	good = good && nr_registered == 3;
	use(0, 0);
	good = good && nr_hits == 9;
	stop();
	return good;
}

TEST(a_range_is_registered_twice_and_then_hit_until_it_changes)
{
	for_each_version(v)
		assert_true(comes_true(registers_twice_and_then_hits, all_versions[v]));
}

static bool registers_once(uint32_t version)
{
	start(version);
	use(0, 0);
	for (int i = 0; i < 3 * (RANGES - 1); i++)
		use(0, 1 + i % (RANGES - 1));
	stop();
	return nr_registered == RANGES && nr_hits == 2 * (RANGES - 1);
}

TEST(a_thread_that_has_registered_before_registers_a_range_once)
{
	for_each_version(v)
		assert_true(comes_true(registers_once, all_versions[v]));
}

static bool registers_once_in_each_domain(uint32_t version)
{
	start(version);
	use(0, 0);
	for (int i = 0; i < 2 * (RANGES - 1); i++)
		for (int domain = 0; domain < DOMAINS; domain++)
			use(domain, 1 + i % (RANGES - 1));
	stop();
	return nr_registered == 1 + DOMAINS * (RANGES - 1) && nr_hits == DOMAINS * (RANGES - 1);
}

TEST(a_thread_registers_a_range_once_in_each_of_several_domains)
{
	for_each_version(v)
		assert_true(comes_true(registers_once_in_each_domain, all_versions[v]));
}

TEST(a_change_ends_the_quiet)
{
	for_each_version(v) {
		start(all_versions[v]);
		for (int i = 0; i < 4 * RANGES; i++)
			use(0, i % RANGES);
		for (int i = 0; i < RANGES; i++) {
			wait_until_quiet();
			change(i);
			for (int range = 0; range < RANGES; range++)
				use(0, range);
			/* registered anew, and hit again */
			use(0, i);
		}
		assert_true(nr_hits >= RANGES * (RANGES - 1));
		stop();
	}
}

/* The change is over when the range is subscribed, and nothing changes any more. */
static void subscribe_late_in_quiet(int range)
{
	pthread_mutex_lock(&lock);
	domains[0][range].cached = true;
	domains[0][range].version = versions[range];
	pthread_mutex_unlock(&lock);
	change(range);
	wait_until_quiet();
	pthread_mutex_lock(&lock);
	assert_int_equal(OPS->subscribe(&ofi_monitor, at(range), LEN), 0);
	pthread_mutex_unlock(&lock);
}

TEST(a_change_before_subscribe_is_not_missed_although_all_is_quiet)
{
	for_each_version(v) {
		start(all_versions[v]);
		use(0, 0);
		use(0, 0);
		subscribe_late_in_quiet(1);
		use(0, 1);
		assert_int_equal(nr_stale, 0);
		subscribe_late_in_quiet(2);
		/* the reaper looks meanwhile, most likely */
		for (int i = 0; i < 10; i++)
			sleep_a_little();
		use(0, 2);
		stop();
	}
}

static int is_quiet_here(void)
{
	/* the module's feed is not mapped in a child */
	quiet.sequence = NULL;
	return is_quiet();
}

TEST(a_forked_child_is_never_quiet)
{
	for_each_version(v) {
		start(all_versions[v]);
		use(0, 0);
		use(0, 0);
		wait_until_quiet();
		assert_int_equal(in_child(is_quiet_here), 0);
		/* the parent stays quiet, or comes to it again after a change by another thread */
		wait_until_quiet();
		stop();
	}
}

/* A provider whose cache registers by way of another cache, which subscribes to a part first. */
TEST(a_change_in_the_middle_of_a_nested_registration_is_not_missed)
{
	for_each_version(v) {
		bool good;

		start(all_versions[v]);
		use(0, 0);
		pthread_mutex_lock(&lock);
		/* the outer cache begins to register range 1, and the inner one is done with it */
		change(1);
		assert_int_equal(OPS->subscribe(&ofi_monitor, at(1), LEN / 2), 0);
		assert_int_equal(OPS->subscribe(&ofi_monitor, at(1), LEN), 0);
		good = OPS->valid(&ofi_monitor, at(1), LEN);
		pthread_mutex_unlock(&lock);
		assert_false(good);
		stop();
	}
}

TEST(a_change_between_registration_and_subscribe_is_not_missed)
{
	for_each_version(v) {
		start(all_versions[v]);
		change_before_subscribe = true;
		for (int i = 0; i < 50; i++)
			use(0, i % RANGES);
		change_before_subscribe = false;
		for (int i = 0; i < 50; i++)
			use(0, i % RANGES);
		assert_true(nr_hits > 0);
		stop();
	}
}

TEST(several_domains_with_the_same_range_are_never_stale_and_come_to_hits)
{
	for_each_version(v) {
		unsigned int seed = 1;

		start(all_versions[v]);
		for (int i = 0; i < 3000; i++) {
			int range = rand_r(&seed) % RANGES;

			if (rand_r(&seed) % 20 == 0)
				change(range);
			use(rand_r(&seed) % DOMAINS, range);
			if (i % 100 == 0)
				sleep_a_little();
		}
		assert_true(nr_hits > 100);
		stop();
	}
}

TEST(evictions_that_nobody_tells_of_do_no_harm)
{
	unsigned int seed = 1;

	start(FI_VERSION(1, 17));
	for (int i = 0; i < 3000; i++) {
		int domain = rand_r(&seed) % DOMAINS, range = rand_r(&seed) % RANGES;

		if (rand_r(&seed) % 20 == 0)
			change(range);
		use(domain, range);
		if (rand_r(&seed) % 4)
			continue;
		pthread_mutex_lock(&lock);
		drop(domain, range);
		pthread_mutex_unlock(&lock);
	}
	stop();
}

static void *register_until_it_is_hit(__attribute__((unused)) void *arg)
{
	while (!nr_hits)
		use(1, 0);
	return NULL;
}

/* libfabric registers without its lock, so another domain can come to a good record meanwhile. */
TEST(a_registration_that_began_before_that_of_another_domain_is_not_taken_for_later)
{
	for_each_version(v) {
		pthread_t thread;

		start(all_versions[v]);
		use(0, 1);
		/* domain 0 has registered, and does not say so yet */
		domains[0][0].version = versions[0];
		change(0);
		assert_int_equal(pthread_create(&thread, NULL, register_until_it_is_hit, NULL), 0);
		pthread_join(thread, NULL);
		pthread_mutex_lock(&lock);
		domains[0][0].cached = true;
		assert_int_equal(OPS->subscribe(&ofi_monitor, at(0), LEN), 0);
		pthread_mutex_unlock(&lock);
		use(0, 0);
		stop();
	}
}

static void *use_while_cancelled(void *ret_well)
{
	int err;

	pthread_cancel(pthread_self());
	err = OPS->start(&ofi_monitor);
	for (int i = 0; i < 3 * RANGES && !err; i++)
		use(0, i % RANGES);
	if (!err)
		OPS->stop(&ofi_monitor);
	*(bool *)ret_well = true;
	return NULL;
}

/* The thread would leave the lock of all caches behind, and libfabric would stand still. */
TEST(a_thread_is_not_cancelled_in_the_monitor)
{
	for_each_version(v) {
		bool well = false;
		pthread_t thread;

		start(all_versions[v]);
		OPS->stop(&ofi_monitor);
		assert_int_equal(pthread_create(&thread, NULL, use_while_cancelled, &well), 0);
		pthread_join(thread, NULL);
		assert_true(well);
		munmap(mem, RANGES * LEN);
	}
}

/* Every test waits for this as long as it takes: the runner's own limit ends it. */
TEST(what_is_stale_is_dropped_although_the_clock_is_set_back)
{
	bool cached = true;

	atomic_store(&hours_ahead, 1);
	start(FI_VERSION(2, 1));
	use(0, 0);
	change(0);
	while (cached) {
		sleep_a_little();
		pthread_mutex_lock(&lock);
		cached = domains[0][0].cached;
		pthread_mutex_unlock(&lock);
	}
	stop();
	atomic_store(&hours_ahead, 0);
}

TEST(what_is_stale_and_not_asked_for_again_is_dropped)
{
	for_each_version(v) {
		bool cached = true;

		start(all_versions[v]);
		for (int i = 0; i < 2 * RANGES; i++)
			use(0, i % RANGES);
		use(1, 0);
		change(0);
		change(3);
		while (cached) {
			sleep_a_little();
			pthread_mutex_lock(&lock);
			cached = domains[0][0].cached || domains[1][0].cached ||
				 domains[0][3].cached;
			pthread_mutex_unlock(&lock);
		}
		pthread_mutex_lock(&lock);
		assert_true(domains[0][1].cached);
		pthread_mutex_unlock(&lock);
		stop();
	}
}

static atomic_bool over;

static void *use_one_domain(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	while (!atomic_load(&over))
		use((int)(uintptr_t)arg - 1, rand_r(&seed) % RANGES);
	return NULL;
}

/* Here the map changes only under the lock, so that the fake knows the version at each hit. */
TEST(threads_with_a_domain_each_are_never_stale)
{
	for_each_version(v) {
		pthread_t threads[DOMAINS];
		bool hit = false;

		start(all_versions[v]);
		atomic_store(&over, false);
		for (uintptr_t i = 0; i < DOMAINS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, use_one_domain,
							(void *)(i + 1)), 0);
		for (int i = 0; i < 100 || (!hit && i < 30000); i++) {
			pthread_mutex_lock(&lock);
			change(i % RANGES);
			hit = nr_hits;
			pthread_mutex_unlock(&lock);
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		}
		atomic_store(&over, true);
		for (int i = 0; i < DOMAINS; i++)
			pthread_join(threads[i], NULL);
		assert_true(hit);
		stop();
	}
}

/* Keeps what the monitor has loaded, so that opening it again is quick. */
static int hold_monitor(void **state)
{
	struct invlock_mm_options options = {
		.size = sizeof(options), .need = INVLOCK_KINDS_DEFAULT,
	};
	static struct invlock_mm *held;

	(void)state;
	/* without a monitor the tests are skipped */
	(void)!invlock_mm_open(&options, &held, NULL);
	return 0;
}

TEST_MAIN(.before_all = hold_monitor, .ends_with_failure = true)
