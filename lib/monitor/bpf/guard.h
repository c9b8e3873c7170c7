/* SPDX-License-Identifier: MIT */
/*
 * The guard, user side: does this kernel need it, can it be had, and what a reader does who finds
 * its feed blind. bpf/guard.h is the kernel side and says what blind means.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_GUARD_H
#define INVLOCK_LIB_MONITOR_BPF_GUARD_H

#include <invlock/mm.h>
#include "progset.h"

struct bpf_program;
struct bpf_link;

/**
 * guard_tracepoints_preemptible() - may a task be preempted inside a program at a tracepoint?
 *
 * Asks the running kernel: a program that is attached for a moment looks, see probe.bpf.c.
 * Context: sleeps, up to a second. Return: false only if that is certain.
 */
bool guard_tracepoints_preemptible(void);

/* may a program switch preemption off itself, as far as the kernel's types tell? */
bool guard_can_be_steady(void);

/**
 * guard_choose() - load the guard with the other programs
 * @obj: opened, not loaded
 */
void guard_choose(struct bpf_object *obj);

/**
 * guard_prepare() - tell it which programs it watches, and where the kernel counts their runs
 * @obj: loaded; nothing is attached, and its maps are not frozen
 * @why: why it cannot be had
 *
 * Return: 0 or -errno.
 */
int guard_prepare(struct bpf_object *obj, struct invlock_why *why);

/* is this one of ours that is kept only until the guard is prepared? */
bool guard_is_passing(const struct bpf_program *prog);

/* attach it: before any program that it watches; 0 or -errno */
int guard_attach(struct bpf_object *obj, struct bpf_link **ret_link);

/**
 * guard_await() - wait until no CPU is blind that was so before we were armed
 * @set: armed in it
 *
 * Changes on such a CPU might be missed without this feed knowing.
 * Context: sleeps, up to two seconds. Return: 0; -EBUSY; what the program said.
 */
int guard_await(const struct set *set);

/**
 * guard_look() - let the CPUs for which a feed is blind find out whether they see again
 * @set: the set
 * @user: whose feed
 *
 * Whoever made one blind may have left without a switch since.
 * Context: some system calls and an interrupt on each CPU. Errors are ignored: the next switch
 * there finds out as well.
 */
void guard_look(const struct set *set, const struct bpf_user *user);

#endif /* INVLOCK_LIB_MONITOR_BPF_GUARD_H */
