// SPDX-License-Identifier: MIT
/* The public read section: core's, plus what a process adds: the mm's death, the watch. */
#include <errno.h>
#include <invlock/section.h>

#include "core/section.h"
#include "mm.h"

struct read {
	struct invlock_section section;
	struct invlock_mm *mm;	/* NULL: nothing is watched */
	int error;		/* found before the section could begin */
	bool watched;
	bool committed;
};

_Static_assert(sizeof(struct read) <= sizeof(struct invlock_read), "struct invlock_read is ABI");

static struct read *read_of(struct invlock_read *rd)
{
	return (struct read *)rd;
}

/* there is no section; what it would be is not looked at then */
static void forget(struct read *r)
{
	r->mm = NULL;
	r->error = -EINVAL;
	r->watched = false;
	r->committed = false;
}

void invlock_read_init(struct invlock_read *rd, struct invlock_mm *mm, const void *addr,
		       size_t len, const struct invlock_read_budget *budget, unsigned int flags)
{
	struct invlock_budget b = {
		.rounds = budget ? budget->rounds : 0,
		.time_ns = budget ? budget->time_ns : 0,
	};
	u64 start = (unsigned long)addr, end = start + len;
	struct read *r = read_of(rd);

	if (!rd)
		return;
	forget(r);
	if (!mm || end <= start || flags & ~INVLOCK_READ_INTERRUPTIBLE)
		return;
	r->error = mm_alive(mm) ? 0 : -EOWNERDEAD;
	if (r->error)
		return;
	r->mm = mm;
	invlock_section_init(&r->section, &mm->il, start, end, &b,
			     flags & INVLOCK_READ_INTERRUPTIBLE ?
			     INVLOCK_SECTION_INTERRUPTIBLE : 0);
}

bool invlock_read_attempt(struct invlock_read *rd)
{
	struct read *r = read_of(rd);

	if (!r || !r->mm || r->error)
		return false;
	if (!mm_alive(r->mm)) {
		r->error = -EOWNERDEAD;
		return false;
	}
	if (!invlock_attempt(&r->section))
		return false;
	/* after the sample, in each round: a mapping that replaced another is not watched */
	r->error = mm_watch(r->mm, r->section.start, r->section.end);
	if (r->watched)
		mm_unwatch(r->mm, r->section.start, r->section.end);
	r->watched = !r->error;
	return r->watched;
}

bool invlock_read_commit(struct invlock_read *rd)
{
	struct read *r = read_of(rd);

	if (!r || !r->mm || r->error)
		return false;
	if (!mm_alive(r->mm)) {
		r->error = -EOWNERDEAD;
		return false;
	}
	r->committed = invlock_commit(&r->section);
	return r->committed;
}

bool invlock_read_valid(struct invlock_read *rd)
{
	struct read *r = read_of(rd);
	struct invlock_section *s;

	if (!r || !r->committed || !mm_alive(r->mm))
		return false;
	s = &r->section;
	for (u32 waits = 0; ; waits++) {
		enum invlock_verdict verdict = invlock_validate(s->il, &s->snap, s->start, s->end);

		if (verdict != INVLOCK_UNSETTLED)
			return verdict == INVLOCK_VALID;
		/* a change that is in flight elsewhere: short, and it ends without us */
		port_wait(waits, false);
	}
}

void invlock_read_end(struct invlock_read *rd)
{
	struct read *r = read_of(rd);

	if (!r || !r->mm)
		return;
	if (r->watched && mm_alive(r->mm))
		mm_unwatch(r->mm, r->section.start, r->section.end);
	forget(r);
}

int invlock_read_error(const struct invlock_read *rd)
{
	const struct read *r = (const struct read *)rd;

	if (!r)
		return -EINVAL;
	return r->error ? r->error : invlock_section_error(&r->section);
}
