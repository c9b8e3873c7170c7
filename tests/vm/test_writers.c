// SPDX-License-Identifier: MIT
/* Two threads write a feed at once: nothing that either of them writes is lost. */
#include "feed.h"

#include <pthread.h>

/* a loss is looked for after each turn; one that is sure to come may take long */
#define TURNS		(fault_is_planted() ? 1000U : 20U)
#define DISCARDS	500U	/* of each thread in a turn */

/* Return: did both threads return NULL? */
static bool run_both(void *(*run)(void *), void *one, void *other)
{
	pthread_t threads[2];
	void *results[2];

	assert_int_equal(pthread_create(&threads[0], NULL, run, one), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, run, other), 0);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], &results[i]), 0);
	return !results[0] && !results[1];
}

static void *discard_again_and_again(void *page)
{
	for (unsigned int i = 0; i < DISCARDS; i++)
		madvise(page, PAGE, MADV_DONTNEED);
	return NULL;
}

TEST(no_event_and_no_end_is_lost_while_two_threads_make_them)
{
	/* in one stripe, so that the threads write the same word of the feed */
	char *pages = map_aligned(2 * MIB);
	bool lost = false, quiet = true;
	struct feed f;
	uint64_t before;

	feed_open(&f, 0);
	for (unsigned int turn = 0; turn < TURNS && !lost && quiet; turn++) {
		before = feed_sequence(&f);
		assert_true(run_both(discard_again_and_again, pages, pages + PAGE));
		lost = feed_sequence(&f) - before < 2 * DISCARDS;
		quiet = feed_is_quiet(&f);
	}
	assert_false(lost);
	assert_true(quiet);
	feed_close(&f);
}

static struct {
	pthread_barrier_t barrier;
	int fd;
} seers;

static void *see_a_kind(void *kind)
{
	struct invlock_feed_see see = {
		.size = sizeof(see),
		.kinds = 1ULL << (uintptr_t)kind,
	};

	pthread_barrier_wait(&seers.barrier);
	return ioctl(seers.fd, INVLOCK_FEED_SEE, &see) ? kind : NULL;
}

/* Return: the kinds of a new feed after two threads have asked for one each. */
static uint64_t ask_for_two_kinds(void)
{
	struct invlock_feed_see see = { .size = sizeof(see) };

	seers.fd = open("/dev/invlock", O_RDONLY | O_CLOEXEC);
	assert_true(run_both(see_a_kind, (void *)INVLOCK_KIND_PROTECT,
			     (void *)INVLOCK_KIND_SOFT_DIRTY));
	assert_int_equal(ioctl(seers.fd, INVLOCK_FEED_SEE, &see), 0);
	close(seers.fd);
	return see.kinds;
}

TEST(two_threads_that_ask_for_kinds_get_both)
{
	const uint64_t both = 1 << INVLOCK_KIND_PROTECT | 1 << INVLOCK_KIND_SOFT_DIRTY;
	uint64_t kinds = both;

	assert_int_equal(pthread_barrier_init(&seers.barrier, NULL, 2), 0);
	for (unsigned int turn = 0; turn < TURNS && (kinds & both) == both; turn++)
		kinds = ask_for_two_kinds();
	pthread_barrier_destroy(&seers.barrier);
	assert_int_equal(kinds & both, both);
}

TEST_MAIN()
