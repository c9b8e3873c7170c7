/* SPDX-License-Identifier: MIT */
/*
 * Who loaded a set of programs? A process that loads a set has power over the maps of all who join
 * it. So a set is joined only if the kernel says that it was loaded with CAP_SYS_ADMIN, which is
 * what joining takes: bpf/loader.bpf.c. What a set states of itself is believed only then.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_LOADER_H
#define INVLOCK_LIB_MONITOR_BPF_LOADER_H

#include "core/port.h"

#define NR_LOADERS	64

/* Ids of the programs loaded_by of which the kernel keeps that their loader had CAP_SYS_ADMIN. */
struct loaders {
	u32 program[NR_LOADERS];
	unsigned int nr;
};

struct bpf_program;
struct bpf_link;

/*
 * Opens the event whose file keeps our credentials. Return: a descriptor; -errno = this process may
 * not, so nobody joins its set.
 */
int loader_open_event(void);

/* Links the program loaded_by to @event, which it takes over. Return: NULL and errno on error. */
struct bpf_link *loader_attach(const struct bpf_program *prog, int event);

/*
 * Context: loads a program for a moment. Locks: the lock in mm.c, as progset_load(). Return: 0 or
 * -errno.
 */
int loaders_find(struct loaders *ret_loaders);

bool loaders_have(const struct loaders *loaders, u32 program);

#endif /* INVLOCK_LIB_MONITOR_BPF_LOADER_H */
