/* SPDX-License-Identifier: MIT */
/*
 * The fault loop of a driver, kmod/fault.c, and all that can happen to its page meanwhile.
 *
 * One page, one device, FAULTS tasks that fault on it. `atomic` stands for the driver's lock,
 * which is only ever held for a moment. Storms never end. README.md says what stands for what,
 * run.py what is proved of this and what each #ifdef here is for.
 */
#ifndef FAULTS
#define FAULTS	1
#endif
#define ROUNDS		2
#define SLOW_ROUNDS	1

#define BIT(fault)	(1 << (fault))
#define ALL		(BIT(FAULTS) - 1)

chan mmap_queue = [8] of { byte };	/* the mmap lock: first come, first served */
byte mmap_readers;
bool mmap_writer;

bool table;		/* the device has a translation */
byte running;		/* inv->running, of this page */
bool dead;		/* the mm was released */
bool closed;		/* inv->closed */
byte current;		/* faults that have walked, and the page did not change since */
byte in_flight;		/* inv->faults */
byte undone;		/* f->walk.invalidate_seq */
byte slow;		/* f->slow */
byte clock_runs, late;	/* a deadline is set; it has passed */
byte killed;		/* a fatal signal is pending */
byte ended, published;	/* how mmu_invlock_fault_end() found them */

#define MINE(set)	(((set) >> me) & 1)
#define ADD(set)	set = set | BIT(me)
#define REMOVE(set)	set = set & ~BIT(me)

#define MMAP_IS_FREE(write)	(!mmap_writer && (!(write) || !mmap_readers))

inline take_mmap(write)
{
	mmap_queue?_;
	if
	:: write -> mmap_writer = true
	:: else -> mmap_readers++
	fi
}

inline drop_mmap(write)
{
	if
	:: write -> mmap_writer = false
	:: else -> mmap_readers--
	fi
}

/* ---- invalidations ---- */

/* mmu_invlock_range_start() with mirror_invalidate() */
inline range_start()
{
	atomic {
#if defined(START_UNDOES_NOTHING)
		skip;
#elif defined(TABLE_ALONE_IS_INTERESTING)
		if
		:: table -> undone = undone | in_flight
		:: else
		fi;
#else
		undone = undone | in_flight;
#endif
		running++;
		table = false
	}
}

inline range_end()
{
#ifdef END_IS_LOST
	skip
#else
	running--
#endif
}

/* what the kernel does between the two: nothing may still be translated */
inline change_page()
{
	atomic {
		assert(!table);
		current = 0
	}
}

inline invalidate()
{
#ifdef END_BEFORE_START
	range_end();
	change_page();
	range_start()
#else
	range_start();
	change_page();
	range_end()
#endif
}

#ifdef CALM
#define STORM(what)	what; what
#else
#define STORM(what)	do :: what od
#endif

/* under the mmap lock: munmap, mremap, mprotect (write), MADV_DONTNEED (read) */
proctype Mmap(byte id; bool write)
{
end:	STORM(
		mmap_queue!id;
		atomic { mmap_queue?[eval(id)] && MMAP_IS_FREE(write) -> take_mmap(write) };
		invalidate();
		atomic { drop_mmap(write) }
	)
}

/* under locks of the page, not the mmap lock: truncation, reclaim, write-back */
proctype Rmap()
{
end:	STORM(
#ifdef RMAP_IS_NOT_HEARD
		change_page()
#else
		invalidate()
#endif
	)
}

/* exit_mmap(), or a driver that unregisters; or neither */
proctype Release()
{
	if
	:: skip
	:: atomic {
		table = false;
		dead = true;
#ifndef RELEASE_CLOSES_NOTHING
		closed = true;
		undone = undone | in_flight
#endif
	   }
	fi
}

/* ---- time and signals ---- */

proctype Clock()
{
end:	do
	:: atomic { clock_runs & ~late -> late = late | clock_runs }
	od
}

proctype Killer()
{
	killed = ALL
}

/* ---- the fault ---- */

#ifdef SLOW_PATH_READS
#define WRITES		false
#else
#define WRITES		MINE(slow)
#endif

/* invlock_undo() */
inline undo()
{
#ifdef NO_RMAP
	/* who holds the mmap lock for writing has shut everybody out */
	assert(!MINE(slow));
#endif
	ADD(clock_runs);
#if !defined(CALM) && !defined(WAITS_ALONE_COST)
	rounds--;
	busy = !rounds || MINE(late)
#endif
}

/* go_slow() */
inline go_slow()
{
	busy = false;
	rounds = SLOW_ROUNDS;
	ADD(slow);
	REMOVE(clock_runs);
	REMOVE(late)
}

/* wait_a_turn() */
inline wait_a_turn()
{
	ADD(clock_runs);
	if
	:: MINE(killed) -> goto out
	:: !MINE(killed)
	fi;
#ifndef WAITS_COST_NOTHING
	if
	:: MINE(late) && MINE(slow) -> goto out
	:: atomic { MINE(late) && !MINE(slow) -> go_slow() }
	:: !MINE(late)
	fi
#endif
}

/* mmu_invlock_enter() */
inline enter()
{
	ADD(in_flight);
#ifdef BEGUN_ONCE
	if
	:: !MINE(clock_runs) -> REMOVE(undone)
	:: else
	fi
#else
	REMOVE(undone)
#endif
}

/* mmu_invlock_commit(), from where the caller takes the driver's lock to where it drops it */
inline commit()
{
	atomic {
		REMOVE(in_flight);
		looked_up = false;
		if
		:: MINE(slow) && !running && !closed ->
			/* walk_again_locked(): it fails for a page that is not there */
			if
			:: ADD(current); looked_up = true
#ifdef QUIET_IS_ENOUGH
			:: looked_up = true
#else
			:: skip
#endif
			fi
		:: else
		fi;
		if
#ifdef SLOW_PATH_DOES_NOT_CHECK
		:: MINE(slow) ||
#else
		::
#endif
		   looked_up || !MINE(undone) ->
			assert(!dead && MINE(current));
			table = true;
			ADD(published)
		:: else ->
			undo()
		fi;
		drop_mmap(WRITES)
	}
}

proctype Fault(byte me)
{
	byte rounds = ROUNDS;
	bool busy, looked_up;

	if
	:: atomic {
		/* mmu_invlock_attempt_at_once(): nobody has to be waited for */
		!running && !closed && empty(mmap_queue) && MMAP_IS_FREE(false) ->
		mmap_readers++;
		enter()
	   };
	   goto walk
	:: skip
	fi;
attempt:
	if
	:: busy && MINE(slow) -> goto out
	:: atomic { busy && !MINE(slow) -> go_slow() }
	:: !busy
	fi;
again:
	if
	:: MINE(killed) -> goto out
	:: !MINE(killed)
	fi;
	/* wait_until_quiet() */
	do
	:: closed -> goto out
	:: !closed && !running -> break
	:: !closed && running -> wait_a_turn()
	od;
	/* lock_mmap() */
	mmap_queue!BIT(me);
	if
	:: atomic { mmap_queue?[eval(BIT(me))] && MMAP_IS_FREE(WRITES) -> take_mmap(WRITES) }
	:: atomic { MINE(killed) -> mmap_queue??eval(BIT(me)) }; goto out
	fi;
	/* enter() */
	if
	:: atomic { closed -> drop_mmap(WRITES) }; goto out
#ifdef QUIET_BEFORE_THE_MMAP_LOCK
	:: atomic { !closed -> enter() }
#else
	:: atomic { !closed && !running -> enter() }
	:: atomic { !closed && running -> drop_mmap(WRITES) };
	   wait_a_turn();
	   goto again
#endif
	fi;
walk:	ADD(current);		/* hmm_range_fault() */
	commit();
	if
	:: MINE(published)
	:: !MINE(published) -> goto attempt
	fi;
out:
	ADD(ended)
}

init {
	atomic {
		run Fault(0);
#if FAULTS > 1
		run Fault(1);
#endif
		run Mmap(BIT(6), true);
#ifdef MANY
		run Mmap(BIT(7), false);
#endif
#ifndef NO_RMAP
		run Rmap();
#endif
#ifdef RELEASED
		run Release();
#endif
#ifdef KILLED
		run Killer()
#elif !defined(CALM)
		run Clock()
#endif
	}
}

ltl faults_end { <> (ended == ALL) }
ltl faults_publish { <> (published == ALL) }
