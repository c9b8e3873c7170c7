// SPDX-License-Identifier: MIT
/*
 * Threads, steps, and the search.
 *
 * A thread is a coroutine on a stack of its own. It hands its next step to the scheduler, which
 * resumes it when the step was made. The search is depth first: run until the end, or until a known
 * state; go back to the last decision with an untried choice; run from the beginning in the same
 * way up to there; take the untried choice.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <ucontext.h>

#include "sim_internal.h"

#define STACK_BYTES	(64u << 10)
#define MAX_DEPTH	4000
#define MAX_STEPS	2000	/* in one run */
#define MAX_PRINTED	150u	/* steps of a run that are printed */
#define MAX_NAMES	64
#define FLUSH		~0u	/* a choice: the store buffer writes its oldest store */

struct sim sim;

static u8 arena[SIM_ARENA] __attribute__((aligned(64)));
static u8 stacks[SIM_THREADS][STACK_BYTES] __attribute__((aligned(64)));
static jmp_buf scheduler;

static struct { const void *p; u64 bytes; const char *name; } names[MAX_NAMES];
static u32 nr_names;

static struct { const u8 *p; u64 bytes; } guarded;

/* A decision of the run, and from how many choices it was made. */
static struct { __u16 chosen, nr; } path[MAX_DEPTH];
static u32 path_length;

static u8 users[SIM_ARENA];	/* for each byte, the threads that use it */

static u64 *known;		/* hashes of states; 0 = empty */
static u64 known_size, nr_known;

/* ---- functions for cases ---- */

void *sim_alloc(u64 bytes)
{
	void *p = arena + sim.arena_used;

	sim.arena_used += (u32)((bytes + 63) & ~63ULL);
	if (sim.arena_used > SIM_ARENA) {
		fprintf(stderr, "a case needs more than %u bytes; raise SIM_ARENA\n", SIM_ARENA);
		exit(1);
	}
	return p;
}

void sim_name(const void *p, u64 bytes, const char *name)
{
	if (nr_names < MAX_NAMES)
		names[nr_names++] = (typeof(names[0])){ p, bytes, name };
}

void sim_guarded(const void *p, u64 bytes)
{
	guarded = (typeof(guarded)){ p, bytes };
}

static bool is_guarded(const void *p)
{
	return (u64)((const u8 *)p - guarded.p) < guarded.bytes;
}

const char *sim_name_of(const void *p)
{
	static char text[4][64];
	static u32 at;
	char *to = text[at++ % 4];

	for (u32 i = 0; i < nr_names; i++) {
		u64 offset = (u64)((const u8 *)p - (const u8 *)names[i].p);

		if ((const u8 *)p >= (const u8 *)names[i].p && offset < names[i].bytes) {
			snprintf(to, 64, offset ? "%s+%llu" : "%s", names[i].name, offset);
			return to;
		}
	}
	snprintf(to, 64, "arena+%ld", (long)((const u8 *)p - sim.arena));
	return to;
}

void sim_fail(const char *format, ...)
{
	va_list args;

	if (sim.failed)
		return;
	sim.failed = true;
	va_start(args, format);
	vsnprintf(sim.failure, sizeof(sim.failure), format, args);
	va_end(args);
}

u32 sim_self(void)
{
	return (u32)(sim.self - sim.threads);
}

void sim_note(const char *format, ...)
{
	char text[200];
	va_list args;

	if (!sim.tracing || !sim.self)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	sim_trace(sim.self, "  %s", text);
}

void sim_trace(const struct thread *t, const char *format, ...)
{
	va_list args;

	if (!sim.tracing || ++sim.printed > MAX_PRINTED)
		return;
	printf("#   %*s%-10s ", (int)(t - sim.threads) * 4, "", t->code->name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

void sim_barrier_may_fail(void)
{
	sim.barrier_may_fail = true;
}

/* ---- steps ---- */

bool sim_use(const void *p, u32 size)
{
	u32 at = (u32)((u8 *)p - sim.arena), self = 1u << sim_self();
	bool alone = true;

	for (u32 i = at; i < at + size; i++) {
		if (users[i] && !(users[i] & (users[i] - 1)) && users[i] != self)
			sim.shared_more = true;
		users[i] |= (u8)self;
		alone &= users[i] == self;
	}
	return alone;
}

bool sim_is_private(const void *p)
{
	u8 mask = users[(u8 *)p - sim.arena];

	return !(mask & (mask - 1));
}

static void describe(const struct thread *t, u32 choice);

u64 sim_step(const struct op *op)
{
	struct thread *t = sim.self;
	bool alone = op->p && sim_use(op->p, op->size) && op->kind <= OP_STORE;
	bool unseen = op->p && op->kind <= OP_CMPXCHG && is_guarded(op->p);

	if (!alone || unseen)
		sim_interrupt();
	t->op = *op;
	if (++sim.steps > MAX_STEPS)
		sim_fail("%s never ends", t->code->name);
	if (!sim.failed && (alone || unseen)) {
		memory_step(t, 0);
		describe(t, 0);
		return t->result;
	}
	if (!_setjmp(t->here))
		_longjmp(scheduler, 1);
	return sim.self->result;
}

/* ---- coroutines ---- */

/* Each thread's stack begins here, once in the life of the process, and runs case after case. */
static void coroutine(void)
{
	struct thread *t = sim.self;

	_setjmp(t->top);
	/* Not through a local variable: a longjmp to this place must not find an old value. */
	if (sim.self->started) {
		sim.self->code->run();
		sim.self->done = true;
	}
	sim.self->started = true;
	_longjmp(scheduler, 1);
}

static void make_coroutines(void)
{
	static ucontext_t back, contexts[SIM_THREADS];
	static bool made;

	if (made)
		return;
	made = true;
	for (u32 i = 0; i < SIM_THREADS; i++) {
		getcontext(&contexts[i]);
		contexts[i].uc_stack.ss_sp = stacks[i];
		contexts[i].uc_stack.ss_size = STACK_BYTES;
		makecontext(&contexts[i], coroutine, 0);
		sim.self = &sim.threads[i];
		sim.self->started = false;
		if (!_setjmp(scheduler))
			swapcontext(&back, &contexts[i]);
	}
	sim.self = NULL;
}

/* Runs the thread until its next step, or its end. */
static void resume(struct thread *t, bool from_the_top)
{
	sim.self = t;
	if (!_setjmp(scheduler))
		_longjmp(from_the_top ? t->top : t->here, 1);
	sim.self = NULL;
}

/* ---- one run ---- */

static void begin_run(void)
{
	memory_reset();
	plain_reset();
	map_reset();
	sim.failed = false;
	sim.steps = sim.printed = 0;
	for (u32 i = 0; i < sim.nr_threads; i++) {
		struct thread *t = &sim.threads[i];

		t->done = false;
		t->history = i;
		t->waits = t->idle_waits = t->relaxed = 0;
		t->stirred = false;
		t->nr_changes = 0;
		t->nr_buffered = t->nr_fenced = 0;
		memset(t->buffer, 0, sizeof(t->buffer));
		memset(&t->view, 0, sizeof(t->view));
		memset(&t->fence, 0, sizeof(t->fence));
		t->observed = 0;
		t->interrupt = NULL;
		resume(t, true);
	}
}

static void describe(const struct thread *t, u32 choice)
{
	static const char * const verbs[] = {
		"load", "store", "add", "cmpxchg", "heavy barrier", "wait", "lock", "unlock",
		"await", "choose",
	};
	static const char * const orders[] = { "", " acquire", " release", " acq_rel", "", "" };
	const struct op *op = &t->op;

	if (!sim.tracing)
		return;
	if (!op->p)
		sim_trace(t, "%s = %llu", verbs[op->kind], t->result);
	else if (op->kind == OP_STORE)
		sim_trace(t, "store%s %s = %#llx", orders[op->order], sim_name_of(op->p), op->a);
	else if (op->kind == OP_ADD)
		sim_trace(t, "add%s %s %+lld, was %#llx", orders[op->order], sim_name_of(op->p),
			  (long long)op->a, t->result);
	else
		sim_trace(t, "%s%s %s: %#llx%s", verbs[op->kind], orders[op->order],
			  sim_name_of(op->p), t->result, choice ? " (stale)" : "");
}

/* What can be done next: a thread, and a variant of its step. */
struct option {
	__u16 thread;
	u32 choice;
	bool preempts, stale, chooses;
};

static u32 options_now(struct option *options, u32 last)
{
	bool last_can_go_on = last < sim.nr_threads && !sim.threads[last].done &&
			      sim.threads[last].op.kind != OP_WAIT &&
			      !(sim.threads[last].op.kind == OP_LOCK && sim.threads[last].op.b) &&
			      memory_nr_choices(&sim.threads[last]);
	u32 nr = 0;

	/* No other thread sees a choice, so the moment of choosing does not matter. */
	for (u32 i = 0; i < sim.nr_threads; i++) {
		const struct thread *t = &sim.threads[i];
		bool chooses = !t->done && t->op.kind == OP_CHOOSE;

		for (u32 choice = 0; chooses && choice < t->op.a; choice++)
			options[nr++] = (struct option){ (__u16)i, choice, .chooses = true };
		if (nr)
			return nr;
	}
	/* Try the thread that ran last first: a run with few switches is easy to read. */
	for (u32 i = 0; i < sim.nr_threads; i++) {
		u32 who = (last + i) % sim.nr_threads;
		struct thread *t = &sim.threads[who];
		u32 choices = t->done ? 0 : memory_nr_choices(t);

		for (u32 choice = 0; choice < choices; choice++)
			options[nr++] = (struct option){ (__u16)who, choice,
							 last_can_go_on && who != last,
							 memory_choice_is_stale(t, choice) };
	}
	for (u32 i = 0; i < sim.nr_threads; i++)
		if (memory_can_flush(&sim.threads[i]))
			options[nr++] = (struct option){ (__u16)i, FLUSH, false, false };
	return nr;
}

static bool all_done(void)
{
	for (u32 i = 0; i < sim.nr_threads; i++)
		if (!sim.threads[i].done)
			return false;
	return true;
}

static void do_option(const struct option *o)
{
	struct thread *t = &sim.threads[o->thread];

	if (o->choice == FLUSH) {
		sim_trace(t, "its store to %s arrives", sim_name_of(t->buffer[0].p));
		memory_flush_oldest(t);
		return;
	}
	memory_step(t, o->choice);
	describe(t, o->choice);
	if (!sim.failed)
		resume(t, false);
}

/* Return: whether the state was new */
static bool learn_state(u64 h)
{
	u64 at;

	h += !h;
	for (at = h & (known_size - 1); known[at]; at = (at + 1) & (known_size - 1))
		if (known[at] == h)
			return false;
	known[at] = h;
	nr_known++;
	return true;
}

static void grow_known(void)
{
	u64 *old = known, old_size = known_size;

	known_size = old_size ? old_size * 4 : 1 << 16;
	known = calloc(known_size, sizeof(*known));
	nr_known = 0;
	for (u64 i = 0; i < old_size; i++)
		if (old[i])
			learn_state(old[i]);
	free(old);
}

static void forget_states(void)
{
	free(known);
	known = NULL;
	known_size = nr_known = path_length = 0;
	sim.shared_more = false;
	grow_known();
}

static u64 state_hash(u32 last, u32 preemptions, u32 stale)
{
	u64 h = mix(memory_hash(), map_hash());

	if (sim.max_preemptions >= 0)
		h = mix(h, 1 + last + preemptions * 8);
	if (sim.max_stale >= 0)
		h = mix(h, stale);
	return h;
}

/* Removes the options that the bounds exclude. */
static u32 within_bounds(struct option *options, u32 nr, u32 preemptions, u32 stale)
{
	u32 kept = 0;

	for (u32 i = 0; i < nr; i++) {
		if (options[i].preempts && sim.max_preemptions >= 0 &&
		    preemptions >= (u32)sim.max_preemptions)
			continue;
		if (options[i].stale && sim.max_stale >= 0 && stale >= (u32)sim.max_stale)
			continue;
		options[kept++] = options[i];
	}
	return kept;
}

static void end_run(void)
{
	memory_flush_all();
	for (u32 i = 0; i < sim.nr_threads && !sim.failed; i++)
		sim.threads[i].done = true;
	if (!sim.failed && sim.c->finish)
		sim.c->finish();
}

static void run_once(void)
{
	struct option options[SIM_THREADS * 48];
	u32 depth = 0, last = SIM_THREADS, preemptions = 0, stale = 0, nr;

	begin_run();
	while (!sim.failed && !sim.shared_more) {
		if (all_done()) {
			end_run();
			break;
		}
		nr = options_now(options, last);
		nr = within_bounds(options, nr, preemptions, stale);
		if (!nr) {
			sim_fail("deadlock: nobody can go on");
			break;
		}
		if (nr > 1) {
			if (depth == path_length) {
				/* This place was not reached before: is its state new, too? */
				if (!sim.tracing &&
				    !learn_state(state_hash(last, preemptions, stale)))
					break;
				if (depth == MAX_DEPTH) {
					sim_fail("a run has more than %u decisions", MAX_DEPTH);
					break;
				}
				path[path_length++] = (typeof(path[0])){ 0, (__u16)nr };
			}
			if (path[depth].nr != nr) {
				sim_fail("the explorer is broken: a run does not repeat");
				break;
			}
			nr = path[depth++].chosen;
		} else {
			nr = 0;
		}
		preemptions += options[nr].preempts;
		stale += options[nr].stale;
		if (options[nr].choice != FLUSH && !options[nr].chooses)
			last = options[nr].thread;
		do_option(&options[nr]);
	}
}

/* ---- the search ---- */

/* Goes back to the last decision with an untried choice. Return: false = there is none */
static bool backtrack(void)
{
	while (path_length && path[path_length - 1].chosen + 1 == path[path_length - 1].nr)
		path_length--;
	if (!path_length)
		return false;
	path[path_length - 1].chosen++;
	return true;
}

static void set_up(const struct sim_case *c, enum sim_model model)
{
	make_coroutines();
	sim.c = c;
	sim.model = model;
	sim.self = NULL;
	sim.arena = arena;
	sim.arena_used = 0;
	sim.failed = sim.barrier_may_fail = false;
	memset(users, 0, sizeof(users));
	nr_names = 0;
	guarded.bytes = 0;
	sim.nr_threads = 0;
	while (sim.nr_threads < SIM_THREADS && c->threads[sim.nr_threads].run) {
		sim.threads[sim.nr_threads].code = &c->threads[sim.nr_threads];
		sim.nr_threads++;
	}
	memory_reset();
	memset(arena, 0, sizeof(arena));
	map_place();
	c->setup();
	memory_forget();
}

struct sim_result sim_explore(const struct sim_case *c, enum sim_model model, u64 max_states,
			      bool trace, bool deep)
{
	struct sim_result result = {};
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	set_up(c, model);
	sim.max_preemptions = deep ? -1 : c->preemptions;
	sim.max_stale = deep ? -1 : c->stale_loads;
	forget_states();
	do {
		if (sim.shared_more)
			forget_states();
		if (nr_known > known_size / 2)
			grow_known();
		run_once();
		result.schedules++;
	} while (!sim.failed && nr_known < max_states && (sim.shared_more || backtrack()));
	result.complete = !sim.failed && !path_length;
	result.failed = sim.failed;
	result.states = nr_known;
	memcpy(result.failure, sim.failure, sizeof(result.failure));
	if (sim.failed && trace) {
		sim.tracing = true;
		run_once();
		sim.tracing = false;
		if (sim.printed > MAX_PRINTED)
			printf("#   ... and %u more\n", sim.printed - MAX_PRINTED);
		if (strcmp(result.failure, sim.failure))
			printf("#   (the printed run ended otherwise: %s)\n", sim.failure);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	result.seconds_x1000 = (u64)((to.tv_sec - from.tv_sec) * 1000 +
				     (to.tv_nsec - from.tv_nsec) / 1000000);
	return result;
}
