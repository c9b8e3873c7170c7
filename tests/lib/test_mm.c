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

TEST(the_ready_mask_has_each_default_kind_that_uffd_sees_or_refuses)
{
	const u64 covered = monitor_uffd.seen | monitor_uffd.refused;

	assert_int_equal(INVLOCK_KINDS_UFFD, INVLOCK_KINDS_DEFAULT & covered);
	assert_int_equal(monitor_uffd.ready, INVLOCK_KINDS_UFFD);
}

TEST(a_program_that_asks_uffd_for_all_kinds_is_told_of_the_ready_mask)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "uffd" };
	struct invlock_mm *mm;
	struct invlock_why why;

	assert_int_equal(invlock_mm_open(&o, &mm, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, "guard and shm-remap; "));
	assert_non_null(strstr(why.text, monitor_uffd.advice));
	/* No advice for a program that asks for kinds which the ready mask lacks, too. */
	o.need = INVLOCK_BIT(GUARD) | INVLOCK_BIT(MIGRATE);
	assert_int_equal(invlock_mm_open(&o, &mm, &why), -EOPNOTSUPP);
	assert_null(strstr(why.text, monitor_uffd.advice));
}

TEST(the_error_of_a_choice_has_every_monitors_whole_sentence)
{
	/* No monitor sees all of these kinds, and no sentence is longer. */
	struct invlock_mm_options o = { .size = sizeof(o), .need = ~0ULL };
	struct invlock_why all, one;
	struct invlock_mm *mm;

	assert_int_equal(invlock_mm_open(&o, &mm, &all), -EOPNOTSUPP);
	for (unsigned int i = 0; monitors[i]; i++) {
		if (monitors[i]->sees_what_it_is_told)
			continue;
		o.monitor = monitors[i]->name;
		assert_int_equal(invlock_mm_open(&o, &mm, &one), -EOPNOTSUPP);
		assert_non_null(strstr(one.text, "42 that this version does not know"));
		assert_non_null(strstr(all.text, one.text));
	}
	/* there is room for one more monitor */
	assert_true(strlen(all.text) + strlen(one.text) < sizeof(all.text));
}

TEST(the_environment_can_limit_the_choice_to_one_monitor)
{
	struct invlock_mm_options o = { .size = sizeof(o), .need = INVLOCK_BIT(UNMAP) };
	struct invlock_mm_info info = { .size = sizeof(info) };
	struct invlock_mm *mm;
	struct invlock_why why;
	int err;

	setenv("INVLOCK_MONITOR", "uffd", 1);
	err = invlock_mm_open(&o, &mm, &why);
	unsetenv("INVLOCK_MONITOR");
	if (err) {
		/* no other monitor was tried */
		assert_null(strstr(why.text, "kmod"));
		assert_null(strstr(why.text, "bpf"));
		TEST_SKIP("%.180s", why.text);
	}
	assert_int_equal(invlock_mm_info(mm, &info), 0);
	assert_string_equal(info.monitor, "uffd");
	invlock_mm_close(mm);
}

TEST(the_environment_does_not_make_a_monitor_see_more)
{
	struct invlock_mm *mm;
	struct invlock_why why;

	setenv("INVLOCK_MONITOR", "uffd", 1);
	assert_int_equal(invlock_mm_open(NULL, &mm, &why), -EOPNOTSUPP);
	unsetenv("INVLOCK_MONITOR");
	assert_non_null(strstr(why.text, "INVLOCK_MONITOR=uffd"));
	assert_non_null(strstr(why.text, "guard and shm-remap"));
	assert_null(strstr(why.text, "kmod"));
}

TEST(a_monitor_that_the_program_names_is_not_changed_by_the_environment)
{
	struct invlock_mm_info info = { .size = sizeof(info) };
	struct invlock_mm *mm;

	setenv("INVLOCK_MONITOR", "uffd", 1);
	assert_int_equal(invlock_mm_open(&manual, &mm, NULL), 0);
	unsetenv("INVLOCK_MONITOR");
	assert_int_equal(invlock_mm_info(mm, &info), 0);
	assert_string_equal(info.monitor, "manual");
	invlock_mm_close(mm);
}

/* manual would see nothing: a program that reports its changes names it. */
TEST(the_environment_cannot_choose_manual_or_an_unknown_monitor)
{
	static const char *const names[] = { "manual", "crystal-ball" };
	struct invlock_mm_options o = { .size = sizeof(o), .need = INVLOCK_BIT(UNMAP) };
	struct invlock_mm *mm;
	struct invlock_why why;

	for (unsigned int i = 0; i < 2; i++) {
		setenv("INVLOCK_MONITOR", names[i], 1);
		assert_int_equal(invlock_mm_open(&o, &mm, &why), -EINVAL);
		assert_non_null(strstr(why.text, names[i]));
		assert_non_null(strstr(why.text, "kmod, bpf, daemon or uffd"));
	}
	unsetenv("INVLOCK_MONITOR");
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
