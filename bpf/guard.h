/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The guard: no run of our programs is skipped without every feed knowing before. core/blind.h has
 * the rules, and says why they are enough; here is who keeps them.
 *
 * The kernel counts, for each program and CPU, the runs that are inside (prog->active), and skips
 * a run that finds another inside. Where a task can be preempted inside a program, the calls of
 * all tasks that then run on this CPU go unseen. That CPU is *blind*: its *window* is open.
 *
 * The window opens in task_leaves(), at sched_switch: the kernel calls it with the run queue
 * locked and interrupts off, so it is itself never skipped, and before the next task runs:
 *
 *	CPU 0						CPU 1
 *	task A is preempted inside call_enters
 *	task_leaves(): invlock_blind_raise()
 *	task B: munmap()
 *	  call_enters is skipped
 *	  B is preempted				get(): blind, so it waits
 *	task_leaves(): mend(), B's call is marked
 *	task A goes on, and leaves the program
 *	task_leaves(), look() or see_again() finds
 *	  nobody inside: invlock_blind_close()		get(): all is stale, a run was skipped;
 *							and B's call runs, so it waits
 *	task B: the map changes
 *	  call_exits: B's call ends			get(): registers what is there now
 *
 * Three may find that nobody is inside any more, and only on the CPU itself:
 *
 *	task_leaves()	the next switch; nothing can come in between: interrupts are off
 *	look()		run there by the library for a reader that waits; in an interrupt, so
 *			nothing can come in between either
 *	see_again()	the end of a program for a watched process, which counts itself out: a
 *			preemption can come in between its look and its closing, and raises the
 *			number that it has seen. While it is inside, the other two close nothing.
 *
 * If no run was skipped in a window (prog->stats->misses did not move), nothing was lost and every
 * translation is as good as before. If a run was skipped while no window was open, the guard is
 * wrong, and every feed is closed.
 *
 * What this rests on: a task inside a program is preempted with migration disabled, as BPF does
 * for every run that can be preempted. Interrupts run none of our programs: pages leave a file, and
 * requests complete, in the context of a task. On PREEMPT_RT, where a task may sleep for a lock
 * inside a program, sched_switch and interprocessor interrupts are as above.
 */
#ifndef INVLOCK_BPF_GUARD_H
#define INVLOCK_BPF_GUARD_H

#include "stretch.h"

#define EAGAIN	11
#define ENOSYS	38

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct bpf_guard);
} invlock_guard SEC(".maps");

/* only where it lies is of interest */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} invlock_here SEC(".maps");

/* Constants to the verifier, set by the library: may a task be preempted inside a program? */
const volatile bool guarded;
/* may a program forbid that? Then windows are rare, but not impossible: it may come too late */
const volatile bool steady;

extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;

static inline struct bpf_guard *get_guard(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&invlock_guard, &zero);
}

static inline u32 this_cpu(void)
{
	return bpf_get_smp_processor_id() & (BPF_NR_CPUS - 1);
}

/* what is added to the address of a per-CPU variable on this CPU; 0 = cannot be told */
static inline u64 this_offset(void)
{
	u64 at = number_of(&invlock_here) + bpf_core_field_offset(struct bpf_array, pptrs);
	u64 base = 0;
	u32 zero = 0;
	void *here = bpf_map_lookup_elem(&invlock_here, &zero);

	if (!here || bpf_probe_read_kernel(&base, sizeof(base), (void *)at))
		return 0;
	return number_of(here) - base;
}

/*
 * Return: so many runs of our programs are inside on this CPU, which is where @offset comes from,
 * runs that are being skipped among them; more than any when it cannot be told
 */
__noinline u64 runs_inside(u64 offset)
{
	struct bpf_guard *g = get_guard();
	u64 sum = 0;

	if (!g || !offset)
		return ~0ULL;
	for (u32 i = 0; i < BPF_NR_GUARDED && i < g->nr_programs; i++) {
		u32 inside = 0;

		if (bpf_probe_read_kernel(&inside, sizeof(inside),
					  (void *)(g->program[i].active + offset)))
			return ~0ULL;
		sum += inside;
	}
	return sum;
}

#define ANY_ROLE	BPF_NR_ROLES

/* Return: so many runs of our programs of this role were skipped on this CPU, ever */
__noinline u64 runs_skipped(u64 offset, u32 role)
{
	struct bpf_guard *g = get_guard();
	u64 sum = 0;

	if (!g)
		return 0;
	for (u32 i = 0; i < BPF_NR_GUARDED && i < g->nr_programs; i++) {
		u64 at = g->program[i].stats + bpf_core_field_offset(struct bpf_prog_stats, misses);
		u64 skipped = 0;

		if (role != ANY_ROLE && g->program[i].role != role)
			continue;
		bpf_probe_read_kernel(&skipped, sizeof(skipped), (void *)(at + offset));
		sum += skipped;
	}
	return sum;
}

/* Return: so many that were in no window before this one */
static inline u64 sum_from(const struct bpf_guard_cpu *c)
{
	return c->from[BPF_ROLE_CALL] + c->from[BPF_ROLE_URING] + c->from[BPF_ROLE_ALL] +
	       c->from[BPF_ROLE_LIFE] + c->from[BPF_ROLE_NET];
}

/*
 * A task was preempted inside; Locks: interrupts are off. That all runs skipped so far lie in
 * windows is known for the CPU, so that a feed which has just come need not have counted them.
 */
__noinline int feed_raise(struct bpf_user *u, u32 cpu, u64 skipped)
{
	struct invlock_blind *w;
	struct invlock il;

	if (!u)
		return 0;
	view_feed(&il, u);
	w = &u->blind[cpu & (BPF_NR_CPUS - 1)];
	if (!port_load(&w->number))
		port_store(&w->closed_misses, skipped);
	invlock_blind_raise(&il, w, skipped);
	return 0;
}

/*
 * Nobody was inside when @window was the CPU's. Return: -EAGAIN when another preemption has come
 * since, and this feed stays blind
 */
__noinline int feed_close_window(struct bpf_user *u, u32 cpu, u64 window, u64 skipped)
{
	struct bpf_guard *g = get_guard();
	struct invlock_blind_seen seen;
	struct invlock_blind *w;
	struct invlock il;

	if (!u || !g)
		return 0;
	cpu &= BPF_NR_CPUS - 1;
	view_feed(&il, u);
	w = &u->blind[cpu];
	seen = invlock_blind_look(w);
	/* not blind for it, or this number is newer than the look at who is inside */
	if (!seen.number)
		return 0;
	if (port_load_acquire(&g->cpu[cpu].window) != window)
		return -EAGAIN;
	/* what was mapped by a call that was skipped is in no table */
	if (seen.misses != skipped)
		files_unknown(u);
	return invlock_blind_close(&il, w, seen, skipped) ? 0 : -EAGAIN;
}

/* the guard is wrong: nobody knows what was lost */
static inline void violated(struct bpf_guard *g, u64 nr)
{
	port_fetch_add(&g->violations, nr);
	close_set();
}

/* a task leaves inside one of our programs, maybe; Locks: interrupts are off */
__noinline int open_window(u64 offset)
{
	u64 skipped = runs_skipped(offset, ANY_ROLE);
	struct bpf_guard *g = get_guard();
	struct bpf_set *set = get_set();
	u32 cpu = this_cpu();
	struct bpf_guard_cpu *c;

	if (!g || !set)
		return 0;
	c = &g->cpu[cpu];
	if (!c->window) {
		if (skipped != c->settled)
			violated(g, skipped - c->settled);
		for (u32 role = 0; role < BPF_NR_ROLES; role++)
			c->from[role] = runs_skipped(offset, role);
		c->since = bpf_ktime_get_ns();
		port_fetch_add(&g->nr_blind, 1);
	}
	port_store(&c->window, ++c->newest);
	/* A full barrier: a user that arms meanwhile finds this window, or we find the user. */
	port_fetch_add(&g->nr_windows, 1);
	for (u32 i = 0; i < BPF_NR_USERS; i++)
		if (port_load(&set->mm[i]))
			feed_raise(user_at(i), cpu, skipped);
	return 0;
}

/*
 * Nobody is inside. @window is that of the CPU before the look, @skipped all that was skipped.
 * The users first: one that arms when they are through still finds the window.
 */
__noinline int close_window(u64 window, u64 skipped)
{
	struct bpf_guard *g = get_guard();
	struct bpf_set *set = get_set();
	u32 cpu = this_cpu();
	struct bpf_guard_cpu *c;
	u64 ns, nr;

	if (!g || !set)
		return 0;
	c = &g->cpu[cpu];
	ns = bpf_ktime_get_ns() - c->since;
	nr = skipped - sum_from(c);
	if (nr && runs_skipped(this_offset(), BPF_ROLE_NET) != c->from[BPF_ROLE_NET])
		net_settle();
	for (u32 i = 0; i < BPF_NR_USERS; i++)
		if (port_load(&set->mm[i]) && feed_close_window(user_at(i), cpu, window, skipped))
			return 0;
	/* before the exchange: after it, the next window may open at any moment */
	port_store(&c->settled, skipped);
	if (port_cmpxchg(&c->window, window, 0) != window)
		return 0;
	/* in this order: pairs with check_skipped() */
	port_fetch_add(&g->settled, nr);
	port_fetch_add(&g->nr_blind, -1ULL);
	port_fetch_add(&g->nr_skipping, !!nr);
	port_fetch_add(&g->total_ns, ns);
	if (ns > g->longest_ns)
		port_store(&g->longest_ns, ns);
	return 0;
}

/* a process that is gone, or has another mm by now, still has its seat; Global: see feed.h */
__noinline int leave_stray(u64 mm, u32 tgid)
{
	struct bpf_set *set = get_set();

	if (!set)
		return 0;
	for (u32 i = 0; i < BPF_NR_USERS; i++)
		if (set->seat[i].tgid == tgid && set->seat[i].mm && set->seat[i].mm != mm)
			leave_seat(i, tgid);
	return 0;
}

/* no more of this mm can be known to the end */
static inline void mend_others(struct bpf_guard_cpu *c, struct task_struct *task, u64 offset)
{
	struct bpf_user *u = user_of(mm_of(task));

	if (u && runs_skipped(offset, BPF_ROLE_URING) != c->from[BPF_ROLE_URING] &&
	    (!bpf_core_field_exists(task->io_uring) || task->io_uring))
		feed_close(u, INVLOCK_FEED_DEGRADED);
	if (runs_skipped(offset, BPF_ROLE_LIFE) != c->from[BPF_ROLE_LIFE] &&
	    (mm_of(task) || !task->signal->live.counter))
		leave_stray(mm_of(task), task->tgid);
	/* a page that leaves a file, as PREEMPT_RT alone can skip; or tracing is switched off */
	if (runs_skipped(offset, BPF_ROLE_ALL) != c->from[BPF_ROLE_ALL])
		close_set();
}

/*
 * A run was skipped in this window, maybe one of @task, which leaves the CPU: its call must not go
 * on unmarked, nor stay marked when it is over. Whoever was skipped leaves before the window
 * closes: the task that is inside needs the CPU. The kernel keeps -ENOSYS as the result of a call
 * until it has returned from its function.
 *
 * @inside: it may be in one of our programs itself, maybe in the one that ends its call. One that
 * is to start it ends what was started for it here, as that of a call whose exit was not seen.
 */
static __noinline int mend(struct bpf_guard *g, struct task_struct *task, u64 offset, bool inside)
{
	struct bpf_user *u = user_of(mm_of(task));
	struct pt_regs *regs;
	struct bpf_call *s;
	bool running;
	u64 nr, ret;
	u32 class;

	mend_others(&g->cpu[this_cpu()], task, offset);
	if (!u || (task->flags & PF_IO_WORKER))
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	nr = BPF_CORE_READ(regs, orig_ax);
	ret = BPF_CORE_READ(regs, ax);
	class = class_of(nr, task);
	running = !(nr & ~(u64)(NR_MASK | X32_BIT)) && ret == -(u64)ENOSYS && wanted(u, class);
	s = find_call(u, task->pid);
	if (running == !!s || (s && inside))
		return 0;
	if (s) {
		if (s->maps)
			files_unknown(u);
		end_call(u, task);
		port_fetch_add(&g->nr_ended, 1);
		return 0;
	}
	s = claim_call(u, task->pid);
	if (!s) {
		feed_close(u, INVLOCK_FEED_DEGRADED);
		return 0;
	}
	/* whatever it is */
	s->nr = 1;
	s->start[0] = 0;
	s->end[0] = INVLOCK_ADDRESS_END;
	s->maps = 1;
	s->brk = class == CALL_PRCTL ? task->mm->brk : 0;
	port_fetch_add(&u->state.nr_mapping, 1);
	feed_start_long(u, 0, INVLOCK_ADDRESS_END, INVLOCK_KIND_UNKNOWN, task->pid);
	port_fetch_add(&g->nr_marked, 1);
	return 0;
}

/*
 * Does it leave with migration disabled? The idle task, which does not, tells how often the guard
 * itself disables it on this kernel; until then, everybody may.
 */
static inline bool may_be_inside(const struct bpf_guard *g, struct task_struct *prev)
{
	return !bpf_core_field_exists(prev->migration_disabled) ||
	       prev->migration_disabled > g->own;
}

static __noinline int leaves_slowly(struct bpf_guard *g, struct task_struct *prev)
{
	bool inside = may_be_inside(g, prev);
	struct bpf_guard_cpu *c = &g->cpu[this_cpu()];
	u64 offset, runs, skipped;

	if (inside && !prev->pid) {
		port_store(&g->own, (u32)prev->migration_disabled);
		inside = false;
	}
	/* another CPU is blind */
	if (!inside && !c->window)
		return 0;
	offset = this_offset();
	runs = runs_inside(offset);
	if (runs && inside)
		open_window(offset);
	if (!c->window)
		return 0;
	skipped = runs_skipped(offset, ANY_ROLE);
	if (!runs)
		close_window(c->window, skipped);
	else if (skipped != sum_from(c))
		mend(g, prev, offset, inside);
	return 0;
}

SEC("?tp_btf/sched_switch")
int BPF_PROG(task_leaves, bool preempt, struct task_struct *prev)
{
	struct bpf_guard *g = get_guard();

	if (!g || likely(!may_be_inside(g, prev) && !port_load(&g->nr_blind)))
		return 0;
	return leaves_slowly(g, prev);
}

/* close this CPU's window if no more than @own runs are inside, which are the caller's own */
static __noinline int look_around(u32 own)
{
	struct bpf_guard *g = get_guard();
	u64 window, offset;

	if (!g)
		return 0;
	/* before the look: see close_window() */
	window = port_load_acquire(&g->cpu[this_cpu()].window);
	if (!window)
		return 0;
	offset = this_offset();
	if (runs_inside(offset) == own)
		close_window(window, runs_skipped(offset, ANY_ROLE));
	return 0;
}

/* run by the library, on the CPU that it wants to see again */
SEC("?raw_tp")
int look(void *unused)
{
	return look_around(0);
}

/* at the end of a program of a watched process: this CPU may be blind no more */
static inline void see_again(const struct bpf_user *u)
{
	if (guarded && unlikely(port_load(&u->feed.blind)))
		look_around(1);
}

/* around what a program does for a watched process; nothing comes of it for all others */
static inline void run_begins(void)
{
	if (steady)
		bpf_preempt_disable();
}

static inline void run_ends(const struct bpf_user *u)
{
	see_again(u);
	if (steady)
		bpf_preempt_enable();
}

/* Return: 1 = this CPU was blind when this user was armed, and may be still; 0 = it was not */
__noinline int unmarked(struct bpf_user *u, u32 cpu)
{
	struct bpf_guard *g = get_guard();

	if (!u || !g || cpu >= g->nr_cpus)
		return -ENOENT;
	cpu &= BPF_NR_CPUS - 1;
	return port_load(&g->cpu[cpu].window) && !port_load(&u->blind[cpu].number);
}

/*
 * So many runs were skipped before this was asked: were they all in windows? Return: 0; -EAGAIN
 * when that is not known until a window is over
 */
__noinline int check_skipped(u64 skipped)
{
	struct bpf_guard *g = get_guard();
	u64 settled;

	if (!g)
		return -EINVAL;
	/* in this order: pairs with the end of close_window() */
	if (port_load_acquire(&g->nr_blind))
		return -EAGAIN;
	settled = port_load(&g->settled);
	if (settled < skipped)
		violated(g, skipped - settled);
	return 0;
}

/* Run once, by the process that loads the set: finds what the guard reads of each program. */
SEC("?iter/bpf_prog")
int find_programs(struct bpf_iter__bpf_prog *ctx)
{
	struct bpf_prog *prog = ctx->prog;
	struct bpf_guard *g = get_guard();
	u32 id;

	if (!prog || !g)
		return 0;
	id = BPF_CORE_READ(prog, aux, id);
	for (u32 i = 0; i < BPF_NR_GUARDED && i < g->nr_programs; i++) {
		if (g->program[i].id != id)
			continue;
		g->program[i].active = (u64)BPF_CORE_READ(prog, active);
		g->program[i].stats = (u64)BPF_CORE_READ(prog, stats);
	}
	return 0;
}

#endif /* INVLOCK_BPF_GUARD_H */
