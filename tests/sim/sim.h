/* SPDX-License-Identifier: MIT */
/*
 * The explorer runs the sources of core as coroutines, in every order.
 *
 * A case is a few threads over memory from sim_alloc(). Each atomic operation of core is one step;
 * between two steps of a thread any other thread may take any number of its own. A thread depends
 * only on what its steps returned, so a state is: what each thread has seen, and memory. A state
 * that was met before is not explored again.
 *
 * Models of memory:
 *   SC	one memory, no delays
 *   TSO	A store waits in its thread's buffer, first in, first out, until a step of the
 *	buffer's own writes it. RMWs and the heavy barrier empty buffers.
 *   WEAK	As in C11 without fences: a load may return any store that the thread does not know
 *	to be overwritten. Knowledge travels only by release and acquire, and between full
 *	RMWs; the map is changed after these. Plain accesses that no such knowledge orders
 *	are a data race.
 */
#ifndef INVLOCK_TESTS_SIM_H
#define INVLOCK_TESTS_SIM_H

#include "core/port.h"

#define SIM_THREADS	5
#define SIM_ARENA	(24u << 10)

enum sim_model { SIM_SC, SIM_TSO, SIM_WEAK, SIM_NR_MODELS };

#define SIM_ALL		(1u << SIM_SC | 1u << SIM_TSO | 1u << SIM_WEAK)

struct sim_thread_code {
	const char *name;
	void (*run)(void);
};

/**
 * struct sim_case - one closed program
 * @name: a word
 * @claim: what holds in every schedule, a sentence
 * @models: bits of enum sim_model
 * @preemptions: how often a thread that could go on may be interrupted; -1 = as often as
 *	it takes
 * @stale_loads: how many loads of a run may miss the newest store (WEAK); -1 = all
 * @setup: fills memory
 * @threads: up to SIM_THREADS
 * @finish: asserts at the end of each run, with everything visible
 */
struct sim_case {
	const char *name;
	const char *claim;
	unsigned int models;
	int preemptions;
	int stale_loads;
	void (*setup)(void);
	struct sim_thread_code threads[SIM_THREADS];
	void (*finish)(void);
};

struct sim_result {
	bool failed;
	bool complete;		/* only the bounds have left anything out */
	u64 states, schedules, seconds_x1000;
	char failure[256];
};

/* Explores a case. @trace: print a failing schedule as TAP comments. @deep: without bounds. */
struct sim_result sim_explore(const struct sim_case *c, enum sim_model model, u64 max_states,
			      bool trace, bool deep);

/* what setup, threads and finish may use */
void *sim_alloc(u64 bytes);			/* zeroed, 64-byte aligned; setup only */
void sim_name(const void *p, u64 bytes, const char *name);	/* for printed schedules */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
u32 sim_self(void);				/* number of the running thread */
void sim_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define SIM_CHECK(cond)							\
do {									\
	if (!(cond))							\
		sim_fail("%s:%d: not so: %s", __func__, __LINE__, #cond); \
} while (0)

/* A lock. A thread that takes it keeps others out, and sees what the last holder did. */
void sim_lock(u32 *lock);
void sim_unlock(u32 *lock);
/*
 * The same for a thread that has just dropped the lock. It is no preemption if another thread takes
 * the lock first.
 */
void sim_lock_again(u32 *lock);
/* Only in setup: this memory is used under one lock, so no other thread sees the steps on it. */
void sim_guarded(const void *p, u64 bytes);

/* Waits until *p is not 0, and then sees what was done before it was set. */
void sim_await(u32 *p);

/* Returns one of n numbers; each of them is tried. */
u32 sim_choose(u32 n);
/* Runs @hook before each later step of this thread, except the hook's own; NULL = none. */
void sim_interrupts(void (*hook)(void));
void sim_interrupt(void);	/* runs the hook at this place */
/* Return: how often this thread has spun */
u32 sim_relaxed(void);

/* From now on a heavy barrier may fail; both outcomes are tried. */
void sim_barrier_may_fail(void);

/*
 * The page table that the program under test uses. Each page has a version, and a change of the map
 * makes a new one. This is the contract, which sim_must_be_current() checks:
 *
 *	An answer "valid" for a translation that read version v of a page is wrong if some
 *	change of that page had begun (its invlock_inv_start() had returned) before the call
 *	that gave the answer, and this change is not yet made or has made a version above v.
 *
 * "Before" means real time under SC and TSO. Under WEAK it means what the calling thread can know;
 * a thread that has seen the result of a change (sim_map_read()) knows of the change.
 */
#define SIM_PAGES	4

u32 sim_change_begins(u32 page);	/* call it after inv_start; returns the change's name */
/* The step that changes the map, before inv_end. SIM_FENCED: everything done before orders it. */
void sim_change_made(u32 change, enum sim_order order);
u32 sim_map_read(u32 page);		/* translate or touch a page; returns its version */
u32 sim_known_changes(void);		/* call it before asking; the check takes the result */
void sim_must_be_current(u32 known_changes, u32 page, u32 version);
u32 sim_map_now(u32 page);		/* only in finish; returns the version */

#endif /* INVLOCK_TESTS_SIM_H */
