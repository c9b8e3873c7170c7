// SPDX-License-Identifier: MIT
/*
 * Ten thousand threads at once, each with a get and a put, which end; and then ten thousand more.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "calls.h"
#include "lib/cache/thread.h"
#include "tests/test.h"

#define NR_THREADS	10000
#define STACK_BYTES	(64 << 10)

static struct rig rig;
static unsigned int nr_running, nr_wrong;	/* atomics */
/* the main thread has it until all others run: ten thousand that look for a flag keep a CPU busy */
static pthread_rwlock_t may_end = PTHREAD_RWLOCK_INITIALIZER;

static void *get_and_put(__attribute__((unused)) void *arg)
{
	struct invlock_pin pin;
	int err = invlock_cache_get(rig.cache, rig.page, PAGE, 0, &pin);

	if (!err)
		err = invlock_cache_put(&pin);
	__atomic_add_fetch(&nr_wrong, err != 0, __ATOMIC_RELAXED);
	__atomic_add_fetch(&nr_running, 1, __ATOMIC_RELEASE);
	pthread_rwlock_rdlock(&may_end);
	pthread_rwlock_unlock(&may_end);
	return NULL;
}

/* Return: the number of threads that ran at once, @most or fewer */
static unsigned int run_threads(pthread_t *threads, unsigned int most)
{
	unsigned int nr = 0;
	pthread_attr_t attr;

	pthread_rwlock_wrlock(&may_end);
	__atomic_store_n(&nr_running, 0, __ATOMIC_RELAXED);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	while (nr < most && !pthread_create(&threads[nr], &attr, get_and_put, NULL))
		nr++;
	pthread_attr_destroy(&attr);
	while (__atomic_load_n(&nr_running, __ATOMIC_ACQUIRE) < nr)
		sched_yield();
	pthread_rwlock_unlock(&may_end);
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	return nr;
}

/* The records of threads that have ended must be free, and their slots empty. */
static unsigned int count_records(unsigned int *ret_owned, unsigned int *ret_filled)
{
	unsigned int nr = 0;

	*ret_owned = *ret_filled = 0;
	for (struct pin_thread *t = port_load_acquire(&thread_registry->threads); t; t = t->next) {
		nr++;
		*ret_owned += port_load(&t->owned) != 0;
		for (struct pin_chunk *c = &t->chunk; c; c = c->next)
			for (unsigned int i = 0; i < PIN_SLOTS; i++)
				*ret_filled += port_load(&c->slots[i].region) != NULL;
	}
	return nr;
}

static unsigned long mapped_pages(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &pages), 1);
	fclose(f);
	return pages;
}

TEST(ten_thousand_threads_give_back_all_that_they_used)
{
	pthread_t *threads = calloc(NR_THREADS, sizeof(*threads));
	unsigned int nr, second, nr_records, again, owned, filled;
	struct invlock_cache_stats stats = { .size = sizeof(stats) };
	unsigned long pages;

	assert_non_null(threads);
	rig_open_or_skip(&rig, "manual");
	nr = run_threads(threads, NR_THREADS);
	if (nr < NR_THREADS / 10)
		TEST_SKIP("only %u threads can run at once here", nr);
	print_message("# %u threads at once\n", nr);
	nr_records = count_records(&owned, &filled);
	/* the main thread has a record if it ever used the cache */
	assert_in_range(nr_records, nr, nr + 1);
	assert_in_range(owned, 0, 1);
	assert_int_equal(filled, 0);
	pages = mapped_pages();
	/* there may be room for fewer now: other programs have threads, too */
	second = run_threads(threads, nr);
	/* The second ten thousand reuse the records, and leave nothing behind. */
	again = count_records(&owned, &filled);
	assert_int_equal(again, nr_records);
	assert_in_range(owned, 0, 1);
	assert_int_equal(filled, 0);
	/* libc keeps some stacks, but ten thousand leaked records would be 2 pages each. */
	assert_in_range(mapped_pages(), 0, pages + nr / 2);
	assert_int_equal(__atomic_load_n(&nr_wrong, __ATOMIC_RELAXED), 0);
	assert_int_equal(invlock_cache_stats(rig.cache, &stats), 0);
	assert_int_equal(stats.hits + stats.misses, nr + second);
	assert_int_equal(stats.refused, 0);
	rig_close(&rig);
	free(threads);
}

TEST_MAIN()
