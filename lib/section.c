// SPDX-License-Identifier: MIT
/* The public read section: core's section, plus the watch of its range and the end of the mm. */
#include <errno.h>
#include <invlock/section.h>

#include "core/section.h"
#include "lib/monitor/monitor.h"

struct read {
	struct invlock_section section;
	struct invlock_mm *mm;	/* NULL: there is no section, and its error says so */
	bool watched;
	bool unwatched;		/* INVLOCK_READ_UNWATCHED */
};

_Static_assert(sizeof(struct read) <= sizeof(struct invlock_read), "struct invlock_read is ABI");
_Static_assert(INVLOCK_READ_INTERRUPTIBLE == INVLOCK_SECTION_INTERRUPTIBLE, "one flag, passed on");

static struct read *read_of(struct invlock_read *rd)
{
	return (struct read *)rd;
}

/* There is no section: the mm is NULL, and nothing else of it is read. */
static void clear(struct read *r)
{
	r->mm = NULL;
	r->watched = false;
	r->section.error = -EINVAL;
	r->section.done = false;
}

void invlock_read_init(struct invlock_read *rd, struct invlock_mm *mm, const void *addr,
		       size_t len, const struct invlock_read_budget *budget, unsigned int flags)
{
	u64 start = (unsigned long)addr;
	struct invlock_budget b;
	struct read *r = read_of(rd);

	if (!rd)
		return;
	if (budget)
		b = (struct invlock_budget){ budget->rounds, budget->time_ns };
	clear(r);
	if (!mm || flags & ~(INVLOCK_READ_INTERRUPTIBLE | INVLOCK_READ_UNWATCHED) ||
	    !user_range_ok(start, start + len))
		return;
	r->mm = mm;
	r->unwatched = flags & INVLOCK_READ_UNWATCHED || !mm_has_to_watch(mm);
	invlock_section_init(&r->section, &mm->il, start, start + len, budget ? &b : NULL,
			     flags & INVLOCK_READ_INTERRUPTIBLE);
}

/* Can the section go on? In a forked child none can. */
static inline bool can_go_on(struct read *r)
{
	if (!r || !r->mm || r->section.error)
		return false;
	if (unlikely(!mm_alive(r->mm)))
		r->section.error = -EOWNERDEAD;
	return !r->section.error;
}

static bool watch_again(struct read *r)
{
	struct look look;

	r->section.error = mm_watch(r->mm, r->section.start, r->section.end, &look);
	if (r->watched)
		mm_unwatch(r->mm, r->section.start, r->section.end);
	r->watched = !r->section.error;
	return r->watched;
}

bool invlock_read_attempt(struct invlock_read *rd)
{
	struct read *r = read_of(rd);

	if (!can_go_on(r))
		return false;
	if (!invlock_attempt(&r->section)) {
		mm_tell_if_closed(r->mm);
		return false;
	}
	/* After each sample: a mapping that has replaced another one is not watched yet. */
	return likely(r->unwatched) || watch_again(r);
}

bool invlock_read_commit(struct invlock_read *rd)
{
	struct read *r = read_of(rd);

	return can_go_on(r) && invlock_commit(&r->section);
}

struct moment {
	struct invlock_snapshot all;	/* of all memory */
	u64 mm;				/* its number; 0: nothing is known of this moment */
};

_Static_assert(sizeof(struct moment) <= sizeof(struct invlock_moment), "the struct is ABI");

bool invlock_moment_take(struct invlock_moment *ret_moment, struct invlock_mm *mm)
{
	struct moment *m = (struct moment *)ret_moment;

	if (!m)
		return false;
	m->mm = 0;
	/* a monitor that is told what to watch does not see the changes of the rest */
	if (!mm || !mm_alive(mm) || mm->monitor->unwatch ||
	    invlock_sample(&mm->il, 0, INVLOCK_ADDRESS_END, &m->all))
		return false;
	m->mm = mm->number;
	return true;
}

bool invlock_read_commit_since(struct invlock_read *rd, const struct invlock_moment *moment)
{
	const struct moment *m = (const struct moment *)moment;
	struct read *r = read_of(rd);
	struct invlock_section *s;

	if (!can_go_on(r) || r->section.done)
		return false;
	s = &r->section;
	/* until it is proved: without an error it would look as if it were committed */
	s->error = m ? -EBUSY : -EINVAL;
	if (!m || m->mm != r->mm->number)
		return false;
	/* before the proof, which fails if the mapping is replaced after this look */
	if (!r->unwatched && !watch_again(r))
		return false;
	s->done = invlock_sample_as_of(s->il, &m->all, s->start, s->end, &s->snap);
	s->error = s->done ? 0 : -EBUSY;
	return s->done;
}

/* Out of line, so that the usual answer saves no registers for the rest. */
__attribute__((noinline))
static bool read_valid_slow(struct invlock_section *s)
{
	u64 begun = 0;

	for (u32 waits = 0; ; waits++) {
		enum invlock_verdict verdict = invlock_validate(s->il, &s->snap, s->start, s->end);

		if (verdict != INVLOCK_UNSETTLED)
			return verdict == INVLOCK_VALID;
		/* Other threads may ask about this section: leave its own clock alone. */
		if (!begun)
			begun = port_now();
		else if (port_now() - begun >= s->left.time_ns)
			return false;
		invlock_nudge(s->il, waits);
		port_wait(waits, false);
	}
}

bool invlock_read_valid(struct invlock_read *rd)
{
	struct read *r = read_of(rd);
	struct invlock_section *s;

	if (!r || !r->section.done || r->section.error || !mm_alive(r->mm))
		return false;
	s = &r->section;
	if (likely(!s->il->settle && invlock_unmoved(s->il, &s->snap, s->start, s->end)))
		return true;
	return read_valid_slow(s);
}

void invlock_read_end(struct invlock_read *rd)
{
	struct read *r = read_of(rd);

	if (!r || !r->mm)
		return;
	if (r->watched && mm_alive(r->mm))
		mm_unwatch(r->mm, r->section.start, r->section.end);
	clear(r);
}

int invlock_read_error(const struct invlock_read *rd)
{
	return rd ? invlock_section_error(&((const struct read *)rd)->section) : -EINVAL;
}
