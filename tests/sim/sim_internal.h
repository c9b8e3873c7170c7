/* SPDX-License-Identifier: MIT */
/*
 * The inside of the explorer.
 *
 *	sim.c		threads, steps, the search
 *	sim_steps.c	the primitives of core, as steps
 *	sim_memory.c	what a load returns under each model
 *	sim_plain.c	plain accesses: the compiler calls us for each, as it does for TSan
 *	sim_map.c	the page table and its contract
 */
#ifndef INVLOCK_TESTS_SIM_INTERNAL_H
#define INVLOCK_TESTS_SIM_INTERNAL_H

#include <setjmp.h>
#include <string.h>

#include "sim.h"

#define MAX_LOCATIONS	192
#define MAX_MESSAGES	40
#define MAX_BUFFERED	12

/* What a thread or a message knows: for each location, the oldest store that it may still read. */
struct view {
	u8 seen[MAX_LOCATIONS];
	__u16 clocks[8];	/* newest known step of each thread; 8 fill whole 64-bit words */
};

enum op_kind {
	OP_LOAD, OP_STORE, OP_ADD, OP_CMPXCHG, OP_HEAVY, OP_WAIT, OP_LOCK, OP_UNLOCK, OP_AWAIT,
	OP_CHOOSE,
};

struct op {
	enum op_kind kind;
	enum sim_order order;
	u32 size;
	void *p;
	u64 a, b;
};

struct buffered {
	void *p;
	u32 size;
	u64 value;
};

struct thread {
	const struct sim_thread_code *code;
	jmp_buf here, top;
	bool started, done;
	struct op op;			/* the next step */
	u64 result;
	u64 history;			/* hash of all results of its steps and plain reads */
	u32 waits, idle_waits, relaxed;
	bool stirred;			/* another thread has written since the wait began */
	struct view view;		/* WEAK */
	struct view fence;	/* the view at its last full RMW, for SIM_FENCED */
	u32 observed;			/* changes whose result it has seen */
	struct buffered buffer[MAX_BUFFERED];	/* TSO */
	u32 nr_buffered, nr_fenced;	/* nr_fenced: those before a light barrier */
	u32 nr_changes;
	void (*interrupt)(void);	/* NULL: no hook */
};

struct sim {
	const struct sim_case *c;
	enum sim_model model;
	int max_preemptions, max_stale;	/* -1: no bound */
	struct thread threads[SIM_THREADS];
	u32 nr_threads;
	struct thread *self;		/* NULL in setup and finish */
	bool failed, tracing, barrier_may_fail;
	bool shared_more;	/* a location that was private got a second user */
	char failure[256];
	u8 *arena;
	u32 arena_used, steps, printed;
};

extern struct sim sim;

static inline u64 mix(u64 h, u64 v)
{
	h = (h ^ v) * 0x9fb21c651e98df25ULL;
	return h ^ h >> 32;
}

static inline bool in_arena(const void *p)
{
	return (u8 *)p >= sim.arena && (u8 *)p < sim.arena + SIM_ARENA;
}

static inline u64 value_at(const void *p, u32 size)
{
	switch (size) {
	case 1: return *(const volatile u8 *)p;
	case 2: return *(const volatile __u16 *)p;
	case 4: return *(const volatile u32 *)p;
	default: return *(const volatile u64 *)p;
	}
}

static inline void set_value_at(void *p, u32 size, u64 v)
{
	switch (size) {
	case 1: *(volatile u8 *)p = (u8)v; break;
	case 2: *(volatile __u16 *)p = (__u16)v; break;
	case 4: *(volatile u32 *)p = (u32)v; break;
	default: *(volatile u64 *)p = v; break;
	}
}

/* In sim.c: hands a step to the scheduler, and returns when it was made. */
u64 sim_step(const struct op *op);
void sim_trace(const struct thread *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
const char *sim_name_of(const void *p);

/*
 * Loads and stores of memory that only one thread ever uses are no steps. The explorer learns which
 * memory is shared as it goes; when it learns of a new shared location, the exploration begins
 * again.
 */
bool sim_use(const void *p, u32 size);		/* notes the use; returns whether it is private */
bool sim_is_private(const void *p);		/* whether at most one thread uses it */

/* sim_memory.c */
void memory_reset(void);
void memory_forget(void);		/* also forgets the locations: for a new case */
u32 memory_nr_choices(const struct thread *t);		/* for the step t->op; 0 = blocked */
bool memory_choice_is_stale(const struct thread *t, u32 choice);
void memory_step(struct thread *t, u32 choice);
bool memory_can_flush(const struct thread *t);
void memory_flush_oldest(struct thread *t);
void memory_flush_all(void);
void memory_settle(struct thread *t, const void *p, u32 size);	/* called before a plain access */
void memory_plain_write(struct thread *t, const void *p, u32 size);
void memory_set(void *p, u32 size, u64 value);
u64 memory_hash(void);

/* In sim_plain.c: is this access ordered with every earlier one? */
enum access { PLAIN_READ, PLAIN_WRITE, ATOMIC_READ, ATOMIC_WRITE, NR_ACCESSES };
void plain_reset(void);
void plain_access(struct thread *t, const void *p, u32 size, enum access access);

/* sim_map.c */
void map_place(void);		/* puts the page table into the arena, as a part of setup */
void map_reset(void);
u64 map_hash(void);

#endif /* INVLOCK_TESTS_SIM_INTERNAL_H */
