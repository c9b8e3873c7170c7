// SPDX-License-Identifier: MIT
/* The public read section, on the manual monitor. */
#include <errno.h>
#include <invlock/manual.h>
#include <invlock/section.h>

#include "tests/test.h"

static struct invlock_mm *mm;
static char memory[65536];

static int open_manual(void **state)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "manual" };

	(void)state;
	return invlock_mm_open(&o, &mm, NULL);
}

static int close_manual(void **state)
{
	(void)state;
	invlock_mm_close(mm);
	return 0;
}

static void report(const void *addr, size_t len)
{
	assert_int_equal(invlock_manual_start(mm, addr, len), 0);
	assert_int_equal(invlock_manual_end(mm, addr, len), 0);
}

TEST(a_translation_is_valid_until_its_range_changes)
{
	struct invlock_read rd;

	invlock_read_init(&rd, mm, memory, PAGE, NULL, 0);
	assert_false(invlock_read_valid(&rd));
	assert_true(invlock_read_attempt(&rd));
	assert_true(invlock_read_commit(&rd));
	assert_int_equal(invlock_read_error(&rd), 0);
	assert_true(invlock_read_valid(&rd));
	report(memory + 2 * PAGE, PAGE);
	assert_true(invlock_read_valid(&rd));
	report(memory + PAGE - 1, 1);
	assert_false(invlock_read_valid(&rd));
	assert_false(invlock_read_valid(&rd));
	invlock_read_end(&rd);
}

TEST(a_collision_goes_round_again)
{
	struct invlock_read rd;
	int rounds = 0;

	invlock_read_init(&rd, mm, memory, sizeof(memory), NULL, 0);
	while (invlock_read_attempt(&rd)) {
		if (!rounds++)
			report(memory, 1);
		if (invlock_read_commit(&rd))
			break;
	}
	assert_int_equal(rounds, 2);
	assert_int_equal(invlock_read_error(&rd), 0);
	invlock_read_end(&rd);
}

TEST(a_spent_budget_ends_the_section_with_ebusy)
{
	struct invlock_read_budget budget = { .rounds = 3 };
	struct invlock_read rd;
	int rounds = 0;

	invlock_read_init(&rd, mm, memory, sizeof(memory), &budget, 0);
	while (invlock_read_attempt(&rd)) {
		rounds++;
		report(memory, 1);
		if (invlock_read_commit(&rd))
			break;
	}
	assert_int_equal(rounds, 3);
	assert_int_equal(invlock_read_error(&rd), -EBUSY);
	assert_false(invlock_read_valid(&rd));
	invlock_read_end(&rd);
}

TEST(a_translation_that_was_made_after_a_moment_is_committed_unless_its_range_changed)
{
	struct invlock_moment moment;
	struct invlock_read rd;

	assert_true(invlock_moment_take(&moment, mm));
	report(memory + 2 * PAGE, PAGE);
	invlock_read_init(&rd, mm, memory, PAGE, NULL, 0);
	assert_true(invlock_read_commit_since(&rd, &moment));
	assert_int_equal(invlock_read_error(&rd), 0);
	assert_true(invlock_read_valid(&rd));
	report(memory, PAGE);
	assert_false(invlock_read_valid(&rd));
	invlock_read_end(&rd);
	/* the same moment: the range has changed since */
	invlock_read_init(&rd, mm, memory, PAGE, NULL, 0);
	assert_false(invlock_read_commit_since(&rd, &moment));
	assert_int_equal(invlock_read_error(&rd), -EBUSY);
	invlock_read_end(&rd);
}

TEST(no_moment_is_taken_while_anything_changes)
{
	struct invlock_moment moment;
	struct invlock_read rd;

	assert_int_equal(invlock_manual_start(mm, memory, PAGE), 0);
	assert_false(invlock_moment_take(&moment, mm));
	assert_int_equal(invlock_manual_end(mm, memory, PAGE), 0);
	invlock_read_init(&rd, mm, memory, PAGE, NULL, 0);
	assert_false(invlock_read_commit_since(&rd, &moment));
	assert_int_equal(invlock_read_error(&rd), -EBUSY);
	invlock_read_end(&rd);
	invlock_read_init(&rd, mm, memory, PAGE, NULL, 0);
	assert_false(invlock_read_commit_since(&rd, NULL));
	assert_int_equal(invlock_read_error(&rd), -EINVAL);
	invlock_read_end(&rd);
	invlock_read_init(&rd, mm, memory, PAGE, NULL, 0);
	assert_false(invlock_read_commit_since(NULL, &moment));
	assert_false(invlock_moment_take(&moment, NULL));
	assert_false(invlock_moment_take(NULL, mm));
	assert_true(invlock_moment_take(&moment, mm));
	/* a change that runs now */
	assert_int_equal(invlock_manual_start(mm, memory, PAGE), 0);
	assert_false(invlock_read_commit_since(&rd, &moment));
	assert_int_equal(invlock_manual_end(mm, memory, PAGE), 0);
	invlock_read_end(&rd);
}

TEST(bad_input_never_enters_the_loop)
{
	struct invlock_read rd;

	invlock_read_init(NULL, mm, memory, 1, NULL, 0);
	assert_false(invlock_read_attempt(NULL));
	assert_false(invlock_read_commit(NULL));
	assert_false(invlock_read_valid(NULL));
	invlock_read_end(NULL);
	assert_int_equal(invlock_read_error(NULL), -EINVAL);

	invlock_read_init(&rd, NULL, memory, 1, NULL, 0);
	assert_false(invlock_read_attempt(&rd));
	assert_int_equal(invlock_read_error(&rd), -EINVAL);
	invlock_read_init(&rd, mm, NULL, 1, NULL, 0);
	assert_false(invlock_read_attempt(&rd));
	assert_int_equal(invlock_read_error(&rd), -EINVAL);
	invlock_read_init(&rd, mm, memory, 0, NULL, 0);
	assert_false(invlock_read_attempt(&rd));
	assert_int_equal(invlock_read_error(&rd), -EINVAL);
	invlock_read_init(&rd, mm, (void *)-PAGE, 2 * PAGE, NULL, 0);
	assert_false(invlock_read_attempt(&rd));
	assert_int_equal(invlock_read_error(&rd), -EINVAL);
	invlock_read_init(&rd, mm, memory, 1, NULL, 1u << 30);
	assert_false(invlock_read_attempt(&rd));
	invlock_read_init(&rd, mm, memory, 1, NULL, 0);
	assert_false(invlock_read_commit(&rd));
	assert_int_equal(invlock_read_error(&rd), -EINVAL);
}

TEST(a_report_that_is_empty_or_wraps_covers_everything)
{
	static const struct { size_t offset, len; } reports[] = { { 8192, 0 }, { 8192, -1UL } };

	for (int i = 0; i < 2; i++) {
		struct invlock_read rd;

		invlock_read_init(&rd, mm, memory, PAGE, NULL, 0);
		assert_true(invlock_read_attempt(&rd));
		assert_true(invlock_read_commit(&rd));
		report(memory + reports[i].offset, reports[i].len);
		assert_false(invlock_read_valid(&rd));
		invlock_read_end(&rd);
	}
}

TEST_MAIN(.setup = open_manual, .teardown = close_manual)
