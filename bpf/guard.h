/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The guard: before the kernel can skip a run of our programs, every feed says that a CPU is blind.
 * core/blind.h has the rules, and says why they are enough. This file has the code that keeps them.
 *
 * For each program and CPU, the kernel counts the runs that are inside (prog->active), and skips a
 * run that finds another one inside. While a task is preempted inside a program, the calls of all
 * other tasks on this CPU go unseen. The CPU is then *blind*, and its *window* is open.
 *
 * The window opens in task_leaves(), at sched_switch. The kernel calls this program with the run
 * queue locked and interrupts off: so it is never skipped itself, and it runs before the next task
 * does:
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
 * Three programs can find that no run is inside any more, each on the CPU concerned only:
 *
 *	task_leaves()	runs at the next switch. Interrupts are off, so nothing comes in between.
 *	look()		is run there by the library for a reader that waits: in an interrupt, or, if
 *			the reader is on that CPU, by the reader itself, which newer kernels can
 *			preempt there. If the window was opened anew or raised between its count
 *			and its closing, it has another number by then, so the closing fails.
 *	see_again()	runs at the end of a program for a watched process, and does not count
 *			that program's own run. A preemption between its count and its closing
 *			raises the number that it has seen, so the closing fails. While it is
 *			inside, the other two close nothing.
 *
 * If no run was skipped in a window (prog->stats->misses did not move), nothing was lost and every
 * translation is as good as before. If a run was skipped while no window was open, the guard itself
 * is wrong, and every feed is closed.
 *
 * The guard relies on three facts. A task inside a program is preempted with migration disabled, as
 * BPF ensures for every run that can be preempted. Interrupts run none of our programs: pages leave
 * a file, and requests complete, in the context of a task. On PREEMPT_RT, where a task may sleep
 * for a lock inside a program, sched_switch and interprocessor interrupts behave as described
 * above.
 */
#ifndef INVLOCK_BPF_GUARD_H
#define INVLOCK_BPF_GUARD_H

#include "stretch.h"

#define EAGAIN	11

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct bpf_guard);
} invlock_guard SEC(".maps");

/* Only the address of this map's value matters, never its content. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} invlock_here SEC(".maps");

static inline struct bpf_guard *get_guard(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&invlock_guard, &zero);
}

static inline u32 this_cpu(void)
{
	return bpf_get_smp_processor_id() & (BPF_NR_CPUS - 1);
}

/* Return: the offset that this CPU adds to the address of a per-CPU variable; 0 = it is unknown. */
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
 * Return: the number of runs of our programs that are inside on this CPU, runs that are being
 * skipped included. @offset must come from this CPU. If the number is unknown, the maximum is
 * returned.
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

/* Return: the number of runs of programs of this role that were ever skipped on this CPU. */
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

/* Return: the number of runs that were skipped before this window opened. */
static inline u64 sum_from(const struct bpf_guard_cpu *c)
{
	return c->from[BPF_ROLE_CALL] + c->from[BPF_ROLE_URING] + c->from[BPF_ROLE_ALL] +
	       c->from[BPF_ROLE_LIFE] + c->from[BPF_ROLE_NET];
}

/*
 * A task was preempted inside a program. Locks: interrupts are off. For this CPU, all runs that
 * were skipped so far are known to lie in windows, so a feed that has just been armed need not have
 * counted them.
 */
__noinline int seat_raise(u32 seat, u32 cpu, u64 skipped)
{
	struct bpf_user *u = armed_at(seat);
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
 * No run was inside while the window of the CPU was @window. Return: -EAGAIN = another preemption
 * has come since, and this feed stays blind.
 */
__noinline int seat_close_window(u32 seat, u32 cpu, u64 window, u64 skipped)
{
	struct bpf_user *u = armed_at(seat);
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
	/*
	 * If the number is 0, this feed is not blind for this CPU. If the window has moved on, the
	 * number is newer than the count of the runs inside.
	 */
	if (!seen.number)
		return 0;
	if (port_load_acquire(&g->cpu[cpu].window) != window)
		return -EAGAIN;
	/* A file that a skipped call mapped is in no table. */
	if (seen.misses != skipped)
		files_unknown(u);
	return invlock_blind_close(&il, w, seen, skipped) ? 0 : -EAGAIN;
}

/* The guard is wrong: it is unknown what was lost. */
static inline void violated(struct bpf_guard *g, u64 nr)
{
	port_fetch_add(&g->violations, nr);
	close_set(BPF_CLOSED_GUARD);
}

VISITOR(raise_group, seat_raise(seat, v->a, v->b))
VISITOR(close_window_group, seat_close_window(seat, v->a, v->b, v->c))

/* A task leaves the CPU and may be inside one of our programs. Locks: interrupts are off. */
__noinline int open_window(u64 offset)
{
	u64 skipped = runs_skipped(offset, ANY_ROLE);
	struct bpf_guard *g = get_guard();
	u32 cpu = this_cpu();
	struct visit v = { .a = cpu, .b = skipped };
	struct bpf_guard_cpu *c;

	if (!g)
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
	visit(raise_group, &v);
	return 0;
}

/*
 * No run is inside. @window is the CPU's window, loaded before the runs inside were counted;
 * @skipped is the number of all runs skipped so far. The windows of the users are closed first: a
 * user that arms after this visit still finds the window of the CPU.
 */
__noinline int close_window(u64 window, u64 skipped)
{
	struct bpf_guard *g = get_guard();
	u32 cpu = this_cpu();
	struct visit v = { .a = cpu, .b = window, .c = skipped };
	struct bpf_guard_cpu *c;
	u64 ns, nr, settled;

	if (!g)
		return 0;
	c = &g->cpu[cpu];
	ns = bpf_ktime_get_ns() - c->since;
	nr = skipped - sum_from(c);
	if (nr && runs_skipped(this_offset(), BPF_ROLE_NET) != c->from[BPF_ROLE_NET])
		net_settle();
	visit(close_window_group, &v);
	if (v.stopped)
		return 0;
	/*
	 * Store this before the exchange: right after it, the next window may open. Never store an
	 * older number: a look() that was preempted here may come late.
	 */
	settled = port_load(&c->settled);
	if (settled < skipped)
		port_cmpxchg(&c->settled, settled, skipped);
	if (port_cmpxchg(&c->window, window, 0) != window)
		return 0;
	/* The order matters: pairs with check_skipped(). */
	port_fetch_add(&g->settled, nr);
	port_fetch_add(&g->nr_blind, -1ULL);
	port_fetch_add(&g->nr_skipping, !!nr);
	port_fetch_add(&g->total_ns, ns);
	if (ns > g->longest_ns)
		port_store(&g->longest_ns, ns);
	return 0;
}

__noinline int seat_is_left(u32 seat, u64 mm, u32 tgid)
{
	struct bpf_set *set = get_set();

	seat &= BPF_NR_USERS - 1;
	if (set && set->seat[seat].tgid == tgid && set->seat[seat].mm &&
	    set->seat[seat].mm != mm)
		leave_seat(seat, tgid);
	return 0;
}

VISITOR(leave_stray_group, seat_is_left(seat, v->a, v->b))

/*
 * A process that has exited, or has another mm by now, still holds its seat. This function is
 * global for the verifier: see feed.h.
 */
__noinline int leave_stray(u64 mm, u32 tgid)
{
	struct visit v = { .a = mm, .b = tgid };

	visit(leave_stray_group, &v);
	return 0;
}

/*
 * After a skipped run of another role than BPF_ROLE_CALL, close each feed and each seat that this
 * run may have left wrong.
 */
static inline void mend_others(struct bpf_guard_cpu *c, struct task_struct *task, u64 offset)
{
	struct bpf_user *u = user_of(mm_of(task));

	if (u && runs_skipped(offset, BPF_ROLE_URING) != c->from[BPF_ROLE_URING] &&
	    (!bpf_core_field_exists(task->io_uring) || task->io_uring))
		feed_close(u, BPF_CLOSED_SKIPPED);
	if (runs_skipped(offset, BPF_ROLE_LIFE) != c->from[BPF_ROLE_LIFE]) {
		if (mm_of(task) || !task->signal->live.counter)
			leave_stray(mm_of(task), task->tgid);
		if (!mm_of(task))
			lose_thread(task->tgid, task->pid);
	}
	/*
	 * The skipped run was for a page that leaves a file, which only PREEMPT_RT can skip, or for
	 * tracing that is switched off.
	 */
	if (runs_skipped(offset, BPF_ROLE_ALL) != c->from[BPF_ROLE_ALL])
		close_set(BPF_CLOSED_SKIPPED);
}

/* The call of @task goes on, and nothing has marked it: mark everything until it is over. */
static __noinline int mark_call(struct bpf_guard *g, struct bpf_user *u, struct task_struct *task,
				u32 class)
{
	struct bpf_call *s = claim_call(u, task->pid);

	if (!s) {
		feed_close(u, BPF_CLOSED_CALLS);
		return 0;
	}
	s->nr = 1;
	s->start[0] = 0;
	s->end[0] = INVLOCK_ADDRESS_END;
	s->maps = 1;
	s->brk = class == CALL_PRCTL ? task->mm->brk : 0;
	port_fetch_add(&u->state.nr_mapping, 1);
	feed_start_slow(u, 0, INVLOCK_ADDRESS_END, INVLOCK_KIND_UNKNOWN, task->pid);
	port_fetch_add(&g->nr_marked, 1);
	return 0;
}

/*
 * A run was skipped in this window, maybe a run for @task, which is leaving the CPU. Its call must
 * neither go on unmarked nor stay marked when it is over. Each task whose run was skipped leaves
 * the CPU before the window closes, because the task that is inside needs the CPU.
 *
 * @inside: @task itself may be in one of our programs, maybe in the program that ends its call. If
 *	it is in the program that starts its call, that program ends the entry made here, as it does
 *	for a call whose exit was not seen.
 */
static __noinline int mend(struct bpf_guard *g, struct task_struct *task, u64 offset, bool inside)
{
	struct bpf_user *u = user_of(mm_of(task));
	struct pt_regs *regs;
	struct bpf_call *s;
	bool in_call, running;
	u64 nr;
	u32 class;

	mend_others(&g->cpu[this_cpu()], task, offset);
	if (!u || (task->flags & PF_IO_WORKER))
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	nr = saved_number(regs);
	class = class_of(nr, task);
	in_call = is_call(nr) && has_no_result(regs);
	running = in_call && is_wanted(u, class);
	s = find_call(u, task->pid);
	if (running && !s) {
		mark_call(g, u, task, class);
	} else if (s && !running && !inside) {
		if (s->maps)
			files_unknown(u);
		end_call(u, task);
		port_fetch_add(&g->nr_ended, 1);
	}
	/*
	 * The end of one of these may have been skipped. In a call it may still go on; but what is
	 * marked for a call covers a move.
	 */
	if (!in_call)
		end_own(u, task->pid, NET_BY_THREAD);
	else if (!s || s->nr)
		end_own(u, task->pid, NET_MOVE);
	return 0;
}

/*
 * Does @prev leave the CPU with migration disabled, other than by this run of the guard? Until
 * teach() knows how often that is, every task may be inside.
 */
static inline bool may_be_inside(const struct bpf_guard *g, struct task_struct *prev)
{
	return !bpf_core_field_exists(prev->migration_disabled) ||
	       prev->migration_disabled > g->own || port_load(&g->teacher);
}

/*
 * The thread that loads the guard sleeps before any other program is attached. It sleeps in
 * nanosleep() and has disabled nothing, so it shows how often the guard itself disables migration
 * on this kernel. Return: true = @prev is that thread
 */
static inline bool teach(struct bpf_guard *g, struct task_struct *prev)
{
	if ((u32)prev->pid != port_load(&g->teacher) || !(prev->__state & TASK_INTERRUPTIBLE))
		return false;
	port_store(&g->own, (u32)prev->migration_disabled);
	port_store(&g->teacher, 0);
	return true;
}

static __noinline int task_leaves_slow(struct bpf_guard *g, struct task_struct *prev)
{
	bool inside = may_be_inside(g, prev) && !teach(g, prev);
	struct bpf_guard_cpu *c = &g->cpu[this_cpu()];
	u64 offset, runs, skipped;

	/* Another CPU is blind, not this one. */
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
	return task_leaves_slow(g, prev);
}

/* Close the window of this CPU if exactly @own runs are inside: these are the caller's own. */
static __noinline int look_around(u32 own)
{
	struct bpf_guard *g = get_guard();
	u64 window, offset;

	if (!g)
		return 0;
	/* Load this before counting the runs inside: see close_window(). */
	window = port_load_acquire(&g->cpu[this_cpu()].window);
	if (!window)
		return 0;
	offset = this_offset();
	if (runs_inside(offset) == own)
		close_window(window, runs_skipped(offset, ANY_ROLE));
	return 0;
}

/* The library runs this program on a CPU that is blind, to find out whether it still is. */
SEC("?raw_tp")
int look(void *unused)
{
	look_around(0);
	return 0;
}

/*
 * Called at the end of a program for a watched process: this CPU may not be blind any more. For all
 * other processes, programs return without it.
 */
static inline void see_again(const struct bpf_user *u)
{
	if (guarded && unlikely(port_load(&u->feed.blind)))
		look_around(1);
}

/*
 * Return: 1 = this CPU was blind when this user was armed, and may still be; 0 = it was not blind.
 */
__noinline int cpu_is_unmarked(struct bpf_user *u, u32 cpu)
{
	struct bpf_guard *g = get_guard();

	if (!u || !g || cpu >= g->nr_cpus)
		return -ENOENT;
	cpu &= BPF_NR_CPUS - 1;
	return port_load(&g->cpu[cpu].window) && !port_load(&u->blind[cpu].number);
}

/*
 * @skipped runs had been skipped when the process of @u asked: did all of them lie in windows? If
 * not, every feed is closed; where the caller is not @trusted, the feed of @u alone. Return: 0;
 * -EAGAIN = this is unknown until an open window is over.
 */
__noinline int check_skipped(struct bpf_user *u, u64 skipped, u32 trusted)
{
	struct bpf_guard *g = get_guard();
	u64 settled;

	if (!g || !u)
		return -EINVAL;
	/* The order matters: pairs with the end of close_window(). */
	if (port_load_acquire(&g->nr_blind))
		return -EAGAIN;
	settled = port_load(&g->settled);
	if (settled >= skipped)
		return 0;
	if (trusted)
		violated(g, skipped - settled);
	else
		feed_close(u, BPF_CLOSED_GUARD);
	return 0;
}

/*
 * The process that loads the set runs this program once. It looks up, for each program, the
 * addresses from which the guard reads its counts.
 */
SEC("?iter/bpf_prog")
int find_programs(struct bpf_iter__bpf_prog *ctx)
{
	struct bpf_prog *prog = ctx->prog;
	struct bpf_guard *g = get_guard();
	u32 id;

	if (!prog || !g)
		return 0;
	id = BPF_CORE_READ(prog, aux, id);
	g->teacher = (u32)bpf_get_current_pid_tgid();
	for (u32 i = 0; i < BPF_NR_GUARDED && i < g->nr_programs; i++) {
		if (g->program[i].id != id)
			continue;
		g->program[i].active = (u64)BPF_CORE_READ(prog, active);
		g->program[i].stats = (u64)BPF_CORE_READ(prog, stats);
	}
	return 0;
}

#endif /* INVLOCK_BPF_GUARD_H */
