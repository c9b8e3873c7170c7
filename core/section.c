// SPDX-License-Identifier: GPL-2.0-only OR MIT
#include "section.h"

/* A nudge makes a wait shorter, but costs more than a turn of it. */
#define NUDGE_EVERY	32
#define NUDGE_ALWAYS	96	/* by then a turn is a sleep */

void invlock_nudge(const struct invlock *il, u32 nr_waits)
{
	if (il->nudge && nr_waits && (nr_waits >= NUDGE_ALWAYS || !(nr_waits % NUDGE_EVERY)))
		il->nudge(il->nudge_arg);
}

/* The clock starts with the first collision or wait: a section without either never reads it. */
static bool out_of_time(struct invlock_section *s)
{
	u64 now = port_now();

	if (!s->deadline) {
		s->deadline = now + s->left.time_ns;
		if (s->deadline < now)
			s->deadline = ~0ULL;
	}
	return now >= s->deadline;
}

int invlock_section_wait(struct invlock_section *s, u32 nr_waits)
{
	s->waits++;
	invlock_nudge(s->il, nr_waits);
	return out_of_time(s) ? -EBUSY :
	       port_wait(nr_waits, s->flags & INVLOCK_SECTION_INTERRUPTIBLE);
}

bool invlock_attempt_slow(struct invlock_section *s)
{
	u32 waits_in_a_row = 0;
	int err;

	while (!s->error && !s->done) {
		err = invlock_sample(s->il, s->start, s->end, &s->snap);
		if (!err) {
			s->sampled = true;
			return true;
		}
		if (err == -EAGAIN)
			err = invlock_section_wait(s, waits_in_a_row++);
		s->error = err;
	}
	return false;
}

void invlock_undo(struct invlock_section *s)
{
	s->sampled = false;
	s->collisions++;
	if (!--s->left.rounds || out_of_time(s))
		s->error = -EBUSY;
}

/* The translation may be good: waiting for the answer is cheaper than making it again. */
static enum invlock_verdict settled_verdict(struct invlock_section *s)
{
	enum invlock_verdict verdict;
	u32 waits_in_a_row = 0;

	while ((verdict = invlock_validate(s->il, &s->snap, s->start, s->end)) ==
	       INVLOCK_UNSETTLED) {
		s->error = invlock_section_wait(s, waits_in_a_row++);
		if (s->error)
			break;
	}
	return verdict;
}

bool invlock_commit_slow(struct invlock_section *s)
{
	if (!s->sampled) {
		s->error = -EINVAL;
		return false;
	}
	switch (settled_verdict(s)) {
	case INVLOCK_VALID:
		s->done = true;
		break;
	case INVLOCK_STALE:
		invlock_undo(s);
		break;
	case INVLOCK_UNSETTLED:
		/* s->error ends the loop, so there is no other round */
		s->collisions++;
		break;
	}
	s->sampled = false;
	return s->done;
}
