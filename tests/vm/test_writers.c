// SPDX-License-Identifier: MIT
/* Two threads make invalidations at once: each of them is an event, and each of them ends. */
#include "feed.h"

#include <pthread.h>

/* a loss is looked for after each turn; one that is sure to come may take long */
#define TURNS		(fault_is_planted() ? 1000U : 20U)
#define DISCARDS	500U	/* of each thread in a turn */

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
	pthread_t threads[2];
	struct feed f;
	uint64_t before;

	feed_open(&f, 0);
	for (unsigned int turn = 0; turn < TURNS && !lost && quiet; turn++) {
		before = feed_sequence(&f);
		for (unsigned int i = 0; i < 2; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, discard_again_and_again,
							pages + i * PAGE), 0);
		for (unsigned int i = 0; i < 2; i++)
			assert_int_equal(pthread_join(threads[i], NULL), 0);
		lost = feed_sequence(&f) - before < 2 * DISCARDS;
		quiet = feed_is_quiet(&f);
	}
	assert_false(lost);
	assert_true(quiet);
	feed_close(&f);
}

TEST_MAIN()
