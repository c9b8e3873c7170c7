// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The BPF monitor, kernel side: its programs write the feeds of the processes that armed it.
 *
 * A call that can change a map starts an invalidation at its enter and ends it at its exit. This
 * holds for every thread that shares the mm: children of clone(CLONE_VM) and vfork count, forked
 * children do not. The library chooses where the programs for this are attached: attach.h. Files
 * and io_uring have headers of their own.
 *
 * The calls of all processes pass these programs. So the programs first check which call it is,
 * since most calls are irrelevant, and then which process makes it.
 *
 * A change that cannot be recorded closes the feed: see feed_close().
 */
#include "ask.h"
#include "uring.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

static inline void read_call(struct call *call, struct pt_regs *regs, u32 class, bool compat,
			     bool after)
{
	call->class = class;
	read_arguments(call->arg, regs, compat, after);
}

/* What will the call change, and may it map a file? Return: false = neither */
static inline bool read_change(struct change *c, bool *ret_maps, struct task_struct *task,
			       struct pt_regs *regs, u32 class, bool compat)
{
	struct call call;

	read_call(&call, regs, class, compat, false);
	decode(c, &call, task, false);
	*ret_maps = may_map_file(&call);
	return c->nr || *ret_maps;
}

static inline int start_call(struct bpf_user *u, const struct change *c, bool maps, u32 class)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 tid = task->pid;
	struct bpf_call *s = claim_call(u, tid);

	if (unlikely(!s)) {
		feed_close(u, BPF_CLOSED_CALLS);
		return 0;
	}
	s->nr = c->nr;
	s->maps = maps;
	s->brk = class == CALL_PRCTL ? task->mm->brk : 0;
	if (maps)
		port_fetch_add(&u->state.nr_mapping, 1);
	if (!c->nr)
		return 0;
	s->start[0] = c->range[0].start;
	s->end[0] = c->range[0].end;
	feed_start(u, c->range[0].start, c->range[0].end, c->range[0].kind, tid);
	if (likely(c->nr == 1))
		return 0;
	s->start[1] = c->range[1].start;
	s->end[1] = c->range[1].end;
	feed_start_slow(u, c->range[1].start, c->range[1].end, c->range[1].kind, tid);
	return 0;
}

/* A watched process enters a call; class and compat are compile-time constants. */
static inline int call_starts(struct bpf_user *u, struct task_struct *task, struct pt_regs *regs,
			      u32 class, bool compat)
{
	struct change c = {};
	bool maps;

	if (!is_wanted(u, class) || !read_change(&c, &maps, task, regs, class, compat))
		return 0;
	return start_call(u, &c, maps, class);
}

/* A global function: the verifier looks at it once, not on each path through decode(). */
__noinline int start_call_global(struct bpf_user *u, struct change *c, u32 maps, u32 class)
{
	return u && c ? start_call(u, c, maps, class) : 0;
}

/* The same for a call of any class, as the tracepoints see it. */
static inline int call_starts_at_tracepoint(struct bpf_user *u, struct task_struct *task,
					  struct pt_regs *regs, u32 class, bool compat)
{
	struct change c = {};
	bool maps;

	if (!is_wanted(u, class) || !read_change(&c, &maps, task, regs, class, compat))
		return 0;
	return start_call_global(u, &c, maps, class);
}

/* A watched process exits from a call. */
static inline int call_ends(struct bpf_user *u, struct task_struct *task, struct pt_regs *regs,
			    u32 class, bool compat, u64 ret)
{
	struct change c = {};
	struct call call;

	if (!is_wanted(u, class))
		return 0;
	read_call(&call, regs, class, compat, true);
	if (may_map_file(&call))
		note_file(u, task, &call, ret);
	if (likely(end_call(u, task)))
		return 0;
	/*
	 * The call changes nothing, or its enter was not seen: it began before we were armed, or
	 * the kernel skipped the program.
	 */
	decode(&c, &call, task, true);
	if (!c.nr)
		return 0;
	port_fetch_add(&u->state.nr_unpaired, 1);
	feed_bump(u, c.range[0].start, c.range[0].end, c.range[0].kind);
	if (c.nr > 1)
		feed_bump(u, c.range[1].start, c.range[1].end, c.range[1].kind);
	return 0;
}

/* The library loads either the programs at the tracepoints or those at the functions. */
#include "attach.h"
#include "net.h"

SEC("tp_btf/sched_process_exit")
int BPF_PROG(task_exits, struct task_struct *task)
{
	/* The task may have given up its mm by now, so its process is identified by the tgid. */
	if (!task->signal->live.counter)
		leave_all(task->tgid);
	lose_thread(task->tgid, task->pid);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(task_execs, struct task_struct *task)
{
	leave_all(task->tgid);
	return 0;
}

/* Linked to an event that never happens: its link tells who loaded the set (loader.bpf.c). */
SEC("perf_event")
int loaded_by(void *unused)
{
	return 0;
}

/*
 * Lists the tasks that may be inside a call which began before the monitor was armed. The frame at
 * the top of a task's kernel stack holds the number of the call that the task is in. Any other
 * content (another call, an interrupt or a fault from user mode) shows that the task is in no call
 * that we mark. The library arms, runs a barrier on every CPU, and then runs this program until no
 * such task is left.
 */
SEC("iter/task")
int scan_calls(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct bpf_busy busy = {};
	struct pt_regs *regs;
	struct bpf_user *u;
	struct pid *pid;
	u32 level;
	u64 nr;

	if (!task || task->mm != bpf_get_current_task_btf()->mm || (task->flags & PF_IO_WORKER))
		return 0;
	u = user_of(mm_of(bpf_get_current_task_btf()));
	if (!u)
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	nr = saved_number(regs);
	if (!is_call(nr))
		return 0;
	if (!is_wanted(u, class_of(nr, task)) || find_call(u, task->pid))
		return 0;
	pid = task->thread_pid;
	level = BPF_CORE_READ(pid, level) & 31;
	bpf_core_read(&busy.tid, sizeof(busy.tid), &pid->numbers[level].nr);
	busy.nr = nr;
	bpf_seq_write(ctx->meta->seq, &busy, sizeof(busy));
	return 0;
}
