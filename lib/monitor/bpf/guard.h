/* SPDX-License-Identifier: MIT */
/*
 * The guard, user side: does this kernel need it, can it be loaded, and what does a reader do that
 * finds its feed blind? bpf/guard.h is the kernel side and says what blind means.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_GUARD_H
#define INVLOCK_LIB_MONITOR_BPF_GUARD_H

#include <invlock/mm.h>
#include "progset.h"

struct invlock_bpf;
struct bpf_program;
struct bpf_link;

/**
 * guard_tracepoints_preemptible() - may a task be preempted inside a program at a tracepoint?
 *
 * Asks the running kernel, by a program that is attached for a moment: see probe.bpf.c.
 * Context: sleeps, up to a second. Return: false only if that is certain.
 */
bool guard_tracepoints_preemptible(void);

/**
 * guard_choose() - load the guard with the other programs
 * @skel: opened, not loaded
 * @why: filled on error
 *
 * Return: 0; -EOPNOTSUPP = no guard is possible on this architecture.
 */
int guard_choose(struct invlock_bpf *skel, struct invlock_why *why);

/**
 * guard_prepare() - tell the guard which programs it watches, and where the kernel counts their
 * runs
 * @obj: loaded; nothing is attached, and its maps are not frozen
 * @why: filled on error: why there can be no guard
 *
 * Return: 0 or -errno.
 */
int guard_prepare(struct bpf_object *obj, struct invlock_why *why);

/* Is this a program that is needed only until the guard is prepared? */
bool guard_is_temporary(const struct bpf_program *prog);

/* Attach the guard, before any program that it watches. Return: 0 or -errno. */
int guard_attach(struct bpf_object *obj, struct bpf_link **ret_link);

/**
 * guard_await() - wait until no CPU is blind whose window opened before we were armed
 * @set: the set in which the process is armed
 * @what: BPF_ASK_UNMARKED for this process; BPF_ASK_SEAT_UNMARKED for the process that has @seat
 *
 * On such a CPU, a change might go unseen without this feed saying that the CPU is blind.
 * Context: sleeps, up to two seconds.
 */
int guard_await(const struct progset *set, enum bpf_what what, u32 seat);

/**
 * guard_look() - let the CPUs for which a feed is blind find out whether they see again
 * @set: the set
 * @user: the user that has this feed
 *
 * The task that made a CPU blind may have left the program without a switch since.
 * Context: some system calls and an interrupt on each blind CPU. Errors are ignored, because the
 * next switch on that CPU finds out as well.
 */
void guard_look(const struct progset *set, const struct bpf_user *user);

#endif /* INVLOCK_LIB_MONITOR_BPF_GUARD_H */
