// SPDX-License-Identifier: MIT
/* The self-test at open must fail for a monitor that claims more than it sees. */
#include <errno.h>

#include "tests/test.h"
#include "lib/selftest/map_change.h"
#include "lib/monitor/monitor.h"
#include "lib/selftest/selftest.h"

/* A real monitor's mm, and a copy of it with other claims. */
struct liar {
	struct invlock_mm *mm;
	struct monitor monitor;
	struct invlock_mm lying;
};

static void open_liar(struct liar *l, const char *name, u64 need)
{
	struct invlock_mm_options o = {
		.size = sizeof(o), .monitor = name, .need = need, .flags = INVLOCK_MM_NO_SELFTEST,
	};
	struct invlock_why why;

	if (invlock_mm_open(&o, &l->mm, &why))
		TEST_SKIP("%.150s", why.text);
	l->monitor = *l->mm->monitor;
	l->lying = *l->mm;
	l->lying.monitor = &l->monitor;
}

/* Whether the self-test at open tries a kind. */
static bool is_tried(unsigned int kind)
{
	const struct map_change *const quick[] = { map_changes, advise_changes, truncate_changes };

	for (unsigned int i = 0; i < 3; i++)
		for (const struct map_change *c = quick[i]; c->name; c++)
			if (c->kind == kind)
				return true;
	return false;
}

TEST(a_blind_monitor_fails_whichever_kind_it_claims)
{
	struct invlock_why why;
	unsigned int nr_kinds = 0;
	struct liar l;

	open_liar(&l, "manual", 0);
	for (unsigned int kind = 0; kind < INVLOCK_NR_KINDS; kind++) {
		if (!is_tried(kind))
			continue;
		nr_kinds++;
		l.lying.seen = UINT64_C(1) << kind;
		why.text[0] = '\0';
		assert_int_equal(selftest(&l.lying, &why), -EOPNOTSUPP);
		assert_non_null(strstr(why.text, "self-test"));
	}
	assert_true(nr_kinds >= 12);
	invlock_mm_close(l.mm);
}

TEST(every_kind_that_a_cache_asks_for_is_tried_but_brk)
{
	/* The heap's end belongs to the whole program: only `invlock doctor` tries brk. */
	for (unsigned int kind = 0; kind < INVLOCK_NR_KINDS; kind++)
		if (INVLOCK_KINDS_DEFAULT >> kind & 1 && kind != INVLOCK_KIND_BRK)
			assert_true(is_tried(kind));
}

TEST(the_error_names_the_monitor_the_kind_and_the_change)
{
	struct invlock_why why;
	struct liar l;

	open_liar(&l, "manual", 0);
	l.lying.seen = INVLOCK_BIT(FIXED);
	assert_int_equal(selftest(&l.lying, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, "manual"));
	assert_non_null(strstr(why.text, "map-fixed"));
	assert_non_null(strstr(why.text, "mmap MAP_FIXED over"));
	assert_int_equal(selftest(&l.lying, NULL), -EOPNOTSUPP);
	invlock_mm_close(l.mm);
}

static int refuse(struct invlock_mm *mm, u64 from, u64 to)
{
	(void)mm;
	(void)from;
	(void)to;
	return -ENOMEM;
}

TEST(a_monitor_that_refuses_all_memory_fails)
{
	struct invlock_why why;
	struct liar l;

	open_liar(&l, "manual", 0);
	l.lying.seen = INVLOCK_KINDS_DEFAULT;
	l.monitor.watch = refuse;
	assert_int_equal(selftest(&l.lying, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, strerror(ENOMEM)));
	invlock_mm_close(l.mm);
}

static void one_false_claim_among_true_ones(const char *name, u64 need, unsigned int kind)
{
	struct invlock_why why;
	struct liar l;

	open_liar(&l, name, need);
	assert_int_equal(selftest(&l.lying, &why), 0);
	l.lying.seen |= UINT64_C(1) << kind;
	assert_int_equal(selftest(&l.lying, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, invlock_kind_name(kind)));
	invlock_mm_close(l.mm);
}

TEST(one_false_claim_of_bpf_among_true_ones_is_found)
{
	one_false_claim_among_true_ones("bpf", INVLOCK_BIT(UNMAP), INVLOCK_KIND_PROTECT);
}

TEST(one_false_claim_of_uffd_among_true_ones_is_found)
{
	one_false_claim_among_true_ones("uffd", INVLOCK_BIT(UNMAP), INVLOCK_KIND_GUARD);
}

TEST_MAIN()
