/* SPDX-License-Identifier: MIT */
/*
 * The read section of a program, core/section.c, then hits on what it made, core/read.h.
 *
 * A reader translates one page while CHANGES threads change it in storms that never end. Each
 * load and each RMW is a step; nobody holds a lock. README.md says what stands for what, run.py
 * what is proved of this and what each #ifdef here is for.
 */
#define READERS	1	/* readers have nothing to do with each other */
#ifndef CHANGES
#define CHANGES	2
#endif
#define ROUNDS	2

#include "lock.pml"

byte blind;		/* feed->blind */
byte under_way;		/* changes whose inv_start has returned, that are not made yet */
byte current;		/* readers that have read the page, and it did not change since */
bool closed;		/* feed->flags */
byte clock_runs, late;	/* s->deadline is set; it has passed */
byte ended, published;	/* how readers' sections ended */

#define MINE(set)	(((set) >> me) & 1)
#define ADD(set)	set = set | BIT(me)
#define REMOVE(set)	set = set & ~BIT(me)

/* ---- the write side ---- */

inline inv_start()
{
#ifdef SEQUENCE_BEFORE_WORDS
	record();
	words_add_start();
#else
	words_add_start();
	record();
#endif
	under_way++
}

inline change_page()
{
	d_step {
		current = 0;
		under_way--
	}
}

#ifdef CALM
#define STORM(what)	what; what
#else
#define STORM(what)	do :: what od
#endif

proctype Change()
{
end:	STORM(
#ifdef END_BEFORE_START
		words_add_end();
		under_way++;
		change_page();
		inv_start();
		under_way--
#else
		inv_start();
		change_page();
#ifndef END_IS_LOST
		words_add_end()
#endif
#endif
	)
}

/* invlock_close_feed(); after it nothing is recorded. Or nothing of the kind happens */
proctype Close()
{
	if
	:: skip
	:: words_add_start();
	   record();
	   closed = true;
	   under_way++;
	   change_page()
	fi
}

/* windows, in which a change may be missed; one of them may never end */
proctype Blind()
{
end:	do
	:: blind++;
#ifndef BLIND_IN_SILENCE
	   words_add_start();
	   record();
#endif
	   if
	   :: skip
	   :: under_way++; change_page()
	   :: goto for_ever
	   fi;
#ifndef BLIND_IN_SILENCE
	   words_add_end();
#endif
	   blind--
	od;
for_ever:
end_for_ever: false
}

proctype Clock()
{
end:	do
	:: atomic { clock_runs & ~late -> late = late | clock_runs }
	od
}

/* ---- the read side ---- */

/*
 * invlock_validate(). An answer "valid" is wrong if a change had begun before the question
 * that the translation does not know.
 */
inline validate()
{
	atomic { stale = under_way || !MINE(current) };
	if
#ifdef ANSWER_IS_ALWAYS_VALID
	:: valid = true
#else
	:: !MINE(sequence_moved) -> valid = true
	:: MINE(sequence_moved) -> valid = WORDS_EQUAL(me)
#endif
	fi;
	assert(!valid || !stale)
}

/* invlock_undo(): a round less, and the clock runs */
inline undo()
{
	ADD(clock_runs);
#if !defined(CALM) && !defined(WAITS_ALONE_COST)
	rounds--;
	failed = !rounds || MINE(late)
#endif
}

proctype Reader(byte me)
{
	byte rounds = ROUNDS;
	bool failed, stale, valid;
#ifdef SAMPLED_ONCE
	bool sampled;
#endif

	do
	:: failed -> break
	:: !failed ->
		/* invlock_sample(), in invlock_attempt() */
#ifdef SAMPLED_ONCE
		if
		:: sampled -> goto translate
		:: !sampled
		fi;
#endif
#ifdef WORDS_BEFORE_SEQUENCE
		if
		:: atomic { !running -> REMOVE(word_moved) }; REMOVE(sequence_moved)
#else
		REMOVE(sequence_moved);
		if
		:: atomic { !running -> REMOVE(word_moved) }
#endif
#ifdef RUNNING_IS_IGNORED
		:: atomic { running -> REMOVE(word_moved) }
#endif
		:: running && closed -> break
		:: running && !closed ->
			/* port_wait() */
			ADD(clock_runs);
#ifndef WAITS_COST_NOTHING
			failed = MINE(late);
#endif
			goto again
		fi;
#ifdef SAMPLED_ONCE
		sampled = true;
#endif
translate:	ADD(current);
ask:		validate();	/* invlock_commit() */
		if
		:: valid -> ADD(published); break
		:: !valid && blind ->
			/* INVLOCK_UNSETTLED: port_wait() in settled_verdict() */
			ADD(clock_runs);
#ifndef COMMITS_WAIT_FOR_EVER
			failed = MINE(late);
#endif
			if
			:: failed
			:: !failed -> goto ask
			fi
		:: !valid && !blind -> undo()
		fi;
again:		skip
	od;
	ADD(ended);

	/* the translation is kept: every use of it asks again */
	do
	:: MINE(published) && valid -> validate()
	:: break
	od
}

init {
	atomic {
		run Reader(0);
		run Change();
#if CHANGES > 1
		run Change();
#endif
#if CHANGES > 2
		run Change();
#endif
#ifdef CLOSED
		run Close();
#endif
#ifdef BLIND
		run Blind();
#endif
#ifndef CALM
		run Clock()
#endif
	}
}

ltl sections_end { <> (ended == ALL) }
ltl sections_publish { <> (published == ALL) }
