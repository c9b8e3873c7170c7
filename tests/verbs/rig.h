/* SPDX-License-Identifier: MIT */
/* An adapter over the fake of libibverbs, with the manual monitor and some memory. */
#ifndef INVLOCK_TESTS_VERBS_RIG_H
#define INVLOCK_TESTS_VERBS_RIG_H

#include <sys/mman.h>
#include <invlock/manual.h>
#include <invlock/verbs.h>

#include "fake.h"
#include "tests/test.h"

#define LEN	(16 * PAGE)

static struct invlock_mm *mm;
static struct invlock_verbs *verbs;
static struct invlock_why why;
static char *mem;

static inline void open_with(struct invlock_verbs_options *o)
{
	o->size = sizeof(*o);
	if (!(o->flags & INVLOCK_VERBS_REAPER))
		o->flags |= INVLOCK_VERBS_NO_REAPER;
	if (invlock_verbs_open(mm, o, &verbs, &why))
		fail_msg("%s", why.text);
}

static inline int setup(void **state)
{
	struct invlock_mm_options o = { .size = sizeof(o), .monitor = "manual" };

	(void)state;
	memset(&fake_verbs, 0, sizeof(fake_verbs));
	assert_int_equal(invlock_mm_open(&o, &mm, NULL), 0);
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	open_with(&(struct invlock_verbs_options){});
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	assert_int_equal(invlock_verbs_close(verbs), 0);
	invlock_mm_close(mm);
	munmap(mem, LEN);
	assert_int_equal(fake_verbs.nr_reg, fake_verbs.nr_dereg);
	return 0;
}

#endif /* INVLOCK_TESTS_VERBS_RIG_H */
