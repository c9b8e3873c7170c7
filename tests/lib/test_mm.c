// SPDX-License-Identifier: MIT
/* Opening an mm: selection, refusal, sharing. */
#include <errno.h>
#include <string.h>

#include <invlock/manual.h>

#include "tests/test.h"
#include "lib/monitor/monitor.h"

static struct invlock_mm_options manual = { .size = sizeof(manual), .monitor = "manual" };

TEST(an_unknown_monitor_is_named_in_the_error)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "crystal-ball" };
	struct invlock_mm *mm = (void *)1;
	struct invlock_why why;

	assert_int_equal(invlock_mm_open(&o, &mm, &why), -EINVAL);
	assert_non_null(strstr(why.text, "crystal-ball"));
	assert_ptr_equal(mm, (void *)1);
}

TEST(options_of_a_wrong_size_or_with_unknown_flags_are_refused)
{
	struct { struct invlock_mm_options o; char newer[8]; } longer = { .o = manual };
	struct invlock_mm_options o = manual;
	struct invlock_mm *mm;
	struct invlock_why why;

	o.size = 4;
	assert_int_equal(invlock_mm_open(&o, &mm, &why), -EINVAL);
	assert_true(why.text[0]);
	o.size = sizeof(o);
	o.flags = 1u << 31;
	assert_int_equal(invlock_mm_open(&o, &mm, NULL), -EINVAL);
	assert_int_equal(invlock_mm_open(&manual, NULL, &why), -EINVAL);

	/* A program built for a later version is accepted if it asks for nothing new. */
	longer.o.size = sizeof(longer);
	assert_int_equal(invlock_mm_open(&longer.o, &mm, NULL), 0);
	invlock_mm_close(mm);
	longer.newer[3] = 1;
	assert_int_equal(invlock_mm_open(&longer.o, &mm, NULL), -E2BIG);
}

TEST(one_process_has_one_feed_however_many_open_it)
{
	struct invlock_mm_info i1 = { .size = sizeof(i1) }, i2 = { .size = sizeof(i2) };
	struct invlock_mm *a, *b;

	assert_int_equal(invlock_mm_open(&manual, &a, NULL), 0);
	assert_int_equal(invlock_mm_open(&manual, &b, NULL), 0);
	assert_int_equal(invlock_mm_info(a, &i1), 0);
	assert_int_equal(invlock_mm_info(b, &i2), 0);
	assert_ptr_equal(i1.feed, i2.feed);
	assert_true(invlock_mm_alive(a));
	assert_false(invlock_mm_alive(NULL));
	invlock_mm_close(a);
	assert_int_equal(invlock_manual_start(b, &a, 1), 0);
	assert_int_equal(invlock_manual_end(b, &a, 1), 0);
	assert_int_equal(invlock_mm_info(b, &i2), 0);
	assert_int_equal(i2.sequence, 1);
	invlock_mm_close(b);
	invlock_mm_close(NULL);
}

TEST(info_names_the_monitor_and_refuses_a_short_struct)
{
	struct invlock_mm_info i = { .size = sizeof(i) };
	struct invlock_mm *mm;

	assert_int_equal(invlock_mm_open(&manual, &mm, NULL), 0);
	assert_int_equal(invlock_mm_info(mm, &i), 0);
	assert_string_equal(i.monitor, "manual");
	assert_int_equal(i.seen, INVLOCK_BIT(MANUAL));
	i.size = 8;
	assert_int_equal(invlock_mm_info(mm, &i), -EINVAL);
	assert_int_equal(invlock_mm_info(NULL, &i), -EINVAL);
	assert_int_equal(invlock_mm_info(mm, NULL), -EINVAL);
	invlock_mm_close(mm);
}

TEST(a_kind_that_no_monitor_sees_is_refused_by_name)
{
	struct invlock_mm_options o = {
		.size = sizeof(o), .need = INVLOCK_BIT(SOFT_DIRTY) | INVLOCK_BIT(MIGRATE),
	};
	struct invlock_mm *mm;
	struct invlock_why why;
	unsigned int nr_named = 0;

	for (unsigned int i = 0; monitors[i]; i++) {
		if (monitors[i]->sees_what_it_is_told || !(o.need & ~monitors[i]->seen))
			continue;
		nr_named++;
		o.monitor = monitors[i]->name;
		assert_int_equal(invlock_mm_open(&o, &mm, &why), -EOPNOTSUPP);
		assert_non_null(strstr(why.text, "soft-dirty"));
		assert_non_null(strstr(why.text, "migrate"));
		assert_non_null(strstr(why.text, o.monitor));
	}
	assert_true(nr_named > 0);
	o.monitor = NULL;
	assert_int_not_equal(invlock_mm_open(&o, &mm, &why), 0);
	assert_non_null(strstr(why.text, "soft-dirty"));
}

TEST(manual_reports_need_a_manual_mm)
{
	struct invlock_mm *mm;
	struct invlock_mm other = { .monitor = NULL };
	int x;

	assert_int_equal(invlock_mm_open(&manual, &mm, NULL), 0);
	assert_int_equal(invlock_manual_start(NULL, &x, 1), -EINVAL);
	assert_int_equal(invlock_manual_end(NULL, &x, 1), -EINVAL);
	assert_int_equal(invlock_manual_start(&other, &x, 1), -EINVAL);
	invlock_mm_close(mm);
}

TEST(every_kind_has_a_name_of_its_own)
{
	for (unsigned int i = 0; i < INVLOCK_NR_KINDS; i++)
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(invlock_kind_name(i), invlock_kind_name(j));
	assert_string_equal(invlock_kind_name(INVLOCK_NR_KINDS), "unknown");
	assert_string_equal(invlock_kind_name(~0u), "unknown");
}

TEST_MAIN()
