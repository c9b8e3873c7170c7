/* SPDX-License-Identifier: MIT */
/*
 * A kernel that preempts its own code, and a writer on it that keeps the rules of core/blind.h.
 *
 * A thread of a case that is a task runs on a CPU: it takes steps only while it holds the CPU's
 * token. Between any two of its steps it may be preempted, as often as the case allows. Its calls
 * change pages; at their enter and exit the kernel runs programs of the writer, or skips them. Each
 * function stands for what the kernel or the BPF program does at one place.
 */
#ifndef INVLOCK_TESTS_SIM_GUARD_H
#define INVLOCK_TESTS_SIM_GUARD_H

#include "core/invlock.h"
#include "core/blind.h"
#include "tests/sim/sim.h"

#define AT(page)	((u64)(page) << 12)

enum program { ENTER, EXIT, NR_PROGRAMS };

struct cpu {
	u32 *token;			/* its holder runs here, and uses the other fields */
	u64 nr_switches;
	u64 active[NR_PROGRAMS];	/* tasks inside each program; only the first runs it */
	u64 misses;
	struct invlock_blind window;
};

/*
 * What the kernel and the writer know of a task. It lies on the task's stack; only the task uses
 * it.
 */
struct task {
	const struct invlock *il;
	struct cpu *cpu;
	u32 page;			/* the page that its call changes */
	bool in_call, made;		/* orig_ax is the call's number; ax is no longer -ENOSYS */
	bool announced;			/* its enter program ran, so its call is in the table */
	bool marked;			/* by the guard, since its enter program was skipped */
	u64 mark;
	u32 preemptions;		/* preemptions that may still come */
};

static struct task *tasks[SIM_THREADS];

static inline struct task *this_task(void)
{
	return tasks[sim_self()];
}

static inline u64 nr_inside(const struct cpu *cpu)
{
	return cpu->active[ENTER] + cpu->active[EXIT];
}

/* The call has ended or was never made, so its marks must end; none of them is ended twice. */
static inline void end_marks(struct task *t)
{
	if (t->announced) {
		t->announced = false;
		invlock_inv_end(t->il, AT(t->page), AT(t->page + 1));
	}
	if (t->marked) {
		t->marked = false;
		/* if its enter was skipped, that window has reported the miss */
		invlock_blind_end(t->il, t->mark, false);
	}
}

/* Runs at a switch of the CPU; @t leaves it. */
static inline void guard(struct task *t)
{
	struct cpu *cpu = t->cpu;

	if (nr_inside(cpu))
		invlock_blind_raise(t->il, &cpu->window, cpu->misses);
	if (!port_load(&cpu->window.number))
		return;
	if (!t->in_call || t->made) {
		/* its exit program may have been skipped */
		end_marks(t);
	} else if (!t->announced && !t->marked) {
		t->marked = true;
		t->mark = invlock_blind_start(t->il);
	}
}

/* Called by a program that has just begun, which is inside itself. */
static inline void close_window(const struct task *t)
{
	struct cpu *cpu = t->cpu;
	struct invlock_blind_seen seen = invlock_blind_look(&cpu->window);

	if (seen.number && nr_inside(cpu) == 1)
		invlock_blind_close(t->il, &cpu->window, seen, cpu->misses);
}

static inline void leave_cpu(struct task *t)
{
	guard(t);
	sim_unlock(t->cpu->token);
}

static inline void get_cpu(struct task *t)
{
	sim_lock_again(t->cpu->token);
	/* A full barrier: what the task does next comes after what the CPU did before. */
	port_fetch_add(&t->cpu->nr_switches, 1);
}

/* Called before each step of a task. */
static void interrupt(void)
{
	struct task *t = this_task();

	if (!t->preemptions || !sim_choose(2))
		return;
	t->preemptions--;
	sim_note("is preempted");
	leave_cpu(t);
	get_cpu(t);
	sim_note("goes on");
}

/* For places where two steps are too far apart to tell where between them a task was preempted. */
static inline void may_be_preempted(void)
{
	sim_interrupt();
}

static inline void run_program(struct task *t, enum program which, void (*body)(struct task *t))
{
	u64 *active = &t->cpu->active[which];

	may_be_preempted();
	if ((*active)++) {
		t->cpu->misses++;
		sim_note("a program is skipped");
	} else {
		close_window(t);
		body(t);
		may_be_preempted();
	}
	(*active)--;
}

static void call_enters(struct task *t)
{
	/* end the mark of its last call, if the exit of that was skipped */
	end_marks(t);
	invlock_inv_start(t->il, AT(t->page), AT(t->page + 1), INVLOCK_KIND_UNMAP, 1, 0);
	t->announced = true;
}

static void call_exits(struct task *t)
{
	if (!t->announced) {
		invlock_inv_start(t->il, AT(t->page), AT(t->page + 1), INVLOCK_KIND_UNMAP, 1, 0);
		invlock_inv_end(t->il, AT(t->page), AT(t->page + 1));
	}
	end_marks(t);
}

/* the enter or exit of a call that changes nothing */
static void other_call(struct task *t)
{
	(void)t;
}

static inline void make_call(struct task *t, u32 page)
{
	t->page = page;
	t->made = false;
	t->in_call = true;
	run_program(t, ENTER, call_enters);
	sim_change_made(sim_change_begins(page), SIM_FENCED);
	t->made = true;
	run_program(t, EXIT, call_exits);
	t->in_call = false;
}

static inline void begin_task(struct task *t, const struct invlock *il, struct cpu *cpu,
			      u32 preemptions)
{
	*t = (struct task){ .il = il, .cpu = cpu, .preemptions = preemptions };
	tasks[sim_self()] = t;
	get_cpu(t);
	sim_interrupts(interrupt);
}

/*
 * Real tasks go on for ever. Here each task makes a last call that changes nothing, and the last of
 * these calls finds nobody inside.
 */
static inline void end_task(struct task *t)
{
	sim_interrupts(NULL);
	run_program(t, EXIT, other_call);
	leave_cpu(t);
}

#endif /* INVLOCK_TESTS_SIM_GUARD_H */
