/* SPDX-License-Identifier: MIT */
/*
 * One CPU of a kernel that preempts its own code, and a guard that keeps the rules of core/blind.h.
 *
 * TASKS tasks make calls for ever, some of which change the page. They are preempted at any
 * step, in favour of any other one; whoever comes to a program that another one is inside of is
 * skipped. A reader elsewhere translates the page again and again. README.md says what stands for
 * what, run.py what is proved of this and what each #ifdef here is for.
 */
#ifndef TASKS
#define TASKS	2
#endif
#ifndef CALLERS
#define CALLERS	1	/* of these, so many make calls that change the page */
#endif
#define ENTER	0
#define EXIT	1

byte on_cpu;			/* the task that runs */
byte inside[2];			/* prog->active: tasks inside the program, skipped ones too */
bool skipped;			/* w->opened_misses is not the number of skipped runs any more */
bool open;			/* w->number is not 0 */
bool unraised[TASKS];		/* w->number is what this task has seen */

byte blind;			/* windows and marks: feed->blind */
byte running;			/* calls that are announced */
bool overlapped;		/* an event since the sample overlaps the page */
bool current;			/* the page is as the reader has read it */

bool in_call[TASKS], made[TASKS], announced[TASKS], marked[TASKS];

#define I_RUN		on_cpu == me
#define ALL_INSIDE	(inside[ENTER] + inside[EXIT])

/* ---- the guard: at a switch, by the CPU itself ---- */

inline raise()
{
	if
	:: !open ->
		open = true;
		skipped = false;
		blind++
	:: else
	fi;
#ifdef NUMBER_IS_A_FLAG
	skip
#else
	for (i : 0 .. TASKS - 1) {
		unraised[i] = false
	}
#endif
}

inline end_marks(task)
{
	if
	:: announced[task] -> announced[task] = false; running--
	:: else
	fi;
	if
	:: marked[task] -> marked[task] = false; blind--
	:: else
	fi
}

inline guard(task)
{
	if
	:: ALL_INSIDE -> raise()
	:: else
	fi;
	if
	:: open && (!in_call[task] || made[task]) -> end_marks(task)
#ifndef SKIPPED_IS_LEFT_UNMARKED
	:: open && in_call[task] && !made[task] && !announced[task] && !marked[task] ->
		marked[task] = true;
		blind++
#endif
	:: else
	fi
}

proctype Switch()
{
	byte i, prev;

end:	do
	:: atomic {
		prev = on_cpu;
#ifndef GUARD_IS_LATE
		guard(prev);
#endif
		if
		:: on_cpu = 0
		:: on_cpu = 1
#if TASKS > 2
		:: on_cpu = 2
#endif
		fi
	   };
#ifdef GUARD_IS_LATE
	   atomic { guard(prev) };
#endif
	   atomic { i = 0; prev = 0 }
	od
}

/* ---- programs ---- */

/* invlock_blind_look() to invlock_blind_close(): each line is a step of the task */
inline close_window()
{
#ifdef LOOKS_TOO_LATE
	atomic { I_RUN -> alone = ALL_INSIDE == 1 };
	atomic { I_RUN -> seen = open; unraised[me] = true };
#else
	atomic { I_RUN -> seen = open; unraised[me] = true };
	if
	:: !seen
	:: seen -> atomic { I_RUN -> alone = ALL_INSIDE == 1 }
	fi;
#endif
#ifdef CLOSES_OVER_OTHERS
	alone = true;
#endif
	if
	:: seen && alone ->
		atomic { I_RUN -> missed = skipped };
		atomic { I_RUN ->
			closes = unraised[me];
			open = open && !closes
		};
		if
		:: closes ->
			atomic { I_RUN ->
#ifndef WHAT_WAS_SKIPPED_IS_FORGOTTEN
				overlapped = overlapped || missed;
#endif
				closes = false
			};
			atomic { I_RUN -> blind-- }
		:: !closes
		fi
	:: else
	fi;
	d_step { seen = false; alone = false; missed = false; unraised[me] = false }
}

inline program(which)
{
	atomic { I_RUN -> first = !inside[which]; inside[which]++ };
	if
	:: !first -> atomic { I_RUN -> skipped = true }
	:: first ->
		close_window();
		if
		:: !in_call[me]
		:: in_call[me] && which == ENTER ->
			atomic { I_RUN -> end_marks(me); announced[me] = true; running++ };
			atomic { I_RUN -> overlapped = true }
		:: in_call[me] && which == EXIT ->
			/* its enter was skipped: an event behind the change */
			atomic { I_RUN -> overlapped = overlapped || !announced[me] };
			atomic { I_RUN -> end_marks(me) }
		fi
	fi;
	atomic { I_RUN -> inside[which]-- }
}

proctype Task(byte me)
{
	bool first, seen, alone, missed, closes;

end:	do
	:: atomic { I_RUN && me < CALLERS -> in_call[me] = true };
	   program(ENTER);
	   atomic { I_RUN -> current = false; made[me] = true };
	   program(EXIT);
	   atomic { I_RUN -> in_call[me] = false; made[me] = false }
	:: program(ENTER)
	:: program(EXIT)
	od
}

/* ---- the reader: invlock_sample(), the translation, invlock_validate() at each use ---- */

proctype Reader()
{
end:	do
	:: atomic { !blind && !running -> overlapped = false };
	   current = true;
	   do
	   :: atomic { !blind && (running || overlapped) -> break }
	   :: atomic { !blind && !running && !overlapped -> assert(current) }
	   od
	od
}

init {
	atomic {
		run Task(0);
		run Task(1);
#if TASKS > 2
		run Task(2);
#endif
		run Switch();
		run Reader()
	}
}
