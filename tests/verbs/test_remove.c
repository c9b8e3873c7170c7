// SPDX-License-Identifier: MIT
/* Domains that are removed while threads hold regions, are cancelled, or wait. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <invlock/manual.h>
#include <invlock/verbs.h>

#include "fake.h"
#include "rig.h"
#include "tests/child.h"
#include "tests/seccomp.h"
#include "tests/test.h"

#define TRIES	10	/* on a busy machine a pin may be held for more than a second */

static struct ibv_pd pds[TRIES + 1];

static int get_and_put(struct ibv_pd *pd, const void *addr)
{
	struct invlock_verbs_pin pin;
	int err = invlock_verbs_get(verbs, pd, addr, PAGE, 0, &pin);

	return err ? err : invlock_verbs_put(&pin);
}

static void *remove_first_domain(void *ret_err)
{
	*(int *)ret_err = invlock_verbs_remove_pd(verbs, &pds[0]);
	return NULL;
}

/* Return: a thread that removes the first domain, and waits for the pin */
static pthread_t begin_removal(struct invlock_verbs_pin *ret_pin, int *ret_err)
{
	struct invlock_cache_entry e = {};
	pthread_t thread;

	assert_int_equal(invlock_verbs_get(verbs, &pds[0], mem, PAGE, 0, ret_pin), 0);
	assert_int_equal(pthread_create(&thread, NULL, remove_first_domain, ret_err), 0);
	while (!(e.flags & INVLOCK_ENTRY_DEAD)) {
		invlock_cache_list(invlock_verbs_cache(verbs), &e, 1);
		sched_yield();
	}
	return thread;
}

/* A get of another domain pins a region for a moment, too, while it compares the keys. */
TEST(a_domain_is_removed_although_a_region_is_pinned_for_a_moment)
{
	int err = -EBUSY;

	for (int i = 0; err == -EBUSY && i < TRIES; i++) {
		struct invlock_verbs_pin pin;
		pthread_t thread = begin_removal(&pin, &err);

		assert_int_equal(invlock_verbs_put(&pin), 0);
		pthread_join(thread, NULL);
	}
	assert_int_equal(err, 0);
}

TEST(a_thread_that_is_cancelled_in_a_removal_leaves_no_lock_behind)
{
	struct invlock_verbs_pin pin;
	pthread_t thread;
	int err;

	thread = begin_removal(&pin, &err);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	assert_int_equal(get_and_put(&pds[1], mem), 0);
	assert_int_equal(invlock_verbs_put(&pin), 0);
}

TEST(a_get_of_a_new_domain_does_not_wait_for_a_removal)
{
	int err = -EBUSY;

	for (int i = 1; err == -EBUSY && i <= TRIES; i++) {
		struct invlock_verbs_pin pin;
		pthread_t thread = begin_removal(&pin, &err);

		/* if this waited, the removal would find the pin in use until it gives up */
		assert_int_equal(get_and_put(&pds[i], mem + PAGE), 0);
		assert_int_equal(invlock_verbs_put(&pin), 0);
		pthread_join(thread, NULL);
		assert_int_equal(invlock_verbs_remove_pd(verbs, &pds[i]), 0);
	}
	assert_int_equal(err, 0);
}

TEST(a_removal_that_another_one_overtakes_leaves_the_next_domain_alone)
{
	int err = -EBUSY;

	for (int i = 0, busy = 0; i < TRIES && busy < TRIES; i += !err, busy += !!err) {
		struct invlock_verbs_pin pin, next;
		pthread_t thread = begin_removal(&pin, &err);

		assert_int_equal(invlock_verbs_put(&pin), 0);
		assert_int_equal(invlock_verbs_remove_pd(verbs, &pds[0]), 0);
		/* in the same place, mostly before the thread looks again */
		assert_int_equal(invlock_verbs_get(verbs, &pds[1], mem, PAGE, 0, &next), 0);
		pthread_join(thread, NULL);
		assert_true(fake_is_live(next.lkey, &pds[1], IBV_ACCESS_LOCAL_WRITE));
		assert_int_equal(invlock_verbs_put(&next), 0);
		assert_int_equal(invlock_verbs_remove_pd(verbs, &pds[1]), 0);
		assert_int_equal(fake_verbs.nr_reg, fake_verbs.nr_dereg);
	}
	assert_int_equal(err, 0);
}

static atomic_bool has_used_it;

static void *get_and_stay(__attribute__((unused)) void *arg)
{
	atomic_store(&has_used_it, !get_and_put(&pds[1], mem));
	for (;;)
		pause();
	return NULL;
}

/* Without the barrier nobody can tell whether the other thread looks at a region. */
static int remove_without_a_barrier(void)
{
	pthread_t thread;

	/* if it waits for ever */
	alarm(100);
	setup(NULL);
	if (get_and_put(&pds[0], mem) || pthread_create(&thread, NULL, get_and_stay, NULL))
		return 1;
	while (!atomic_load(&has_used_it))
		sched_yield();
	if (!refuse_calls((long[]){ SYS_membarrier }, 1))
		return 77;
	return invlock_verbs_remove_pd(verbs, &pds[0]) == -EBUSY ? 0 : 2;
}

TEST(a_removal_ends_where_the_kernel_refuses_the_barrier)
{
	int result = in_child(remove_without_a_barrier);

	if (result == 77)
		TEST_SKIP("no seccomp filter can be had here");
	assert_int_equal(result, 0);
}

TEST_MAIN(.setup = setup, .teardown = teardown)
