/* SPDX-License-Identifier: MIT */
/*
 * A set of programs in the kernel, which all processes of a machine that use the BPF monitor
 * share: each more set costs every system call of every process some 60 ns more.
 *
 * Nothing is pinned. Each process that uses a set holds descriptors of all its links and
 * programs, and these hold the maps: whoever dies, the others' set goes on, and it is gone
 * with its last user.
 *
 * A process finds the sets that run by asking the kernel for all links and programs, which
 * takes CAP_SYS_ADMIN; without it, it loads its own. It does so as well when no set is
 *
 * - complete, and of exactly this build of the library: the hash of the object file,
 * - loaded by root or by the same user: the process that loads a set can put any map into it,
 * - with a seat left, and without one of this mm, as another copy of the library takes.
 *
 * Two that start at the same moment may both load one. Each then looks again, and takes the
 * one whose last link came first; so that one is left, unless its owner dies just then, and
 * two sets run for a while: they add up, and nothing else.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_PROGSET_H
#define INVLOCK_LIB_MONITOR_BPF_PROGSET_H

#include <invlock/mm.h>
#include "bpf/shared.h"
#include "core/port.h"

#define SET_ROOM	128

struct set {
	u32 id;			/* of its map invlock_set; 0 = no set */
	u32 users_id;		/* of its map invlock_users */
	int users;		/* the same; -1 once this process sits */
	u32 last_link;
	struct bpf_set_header header;
	unsigned int nr_programs, nr_links;
	int programs[SET_ROOM];
	int links[SET_ROOM];
	int ask, scan_calls, scan_files, look;	/* among programs; look: -1 without a guard */
	u32 seat;
};

/**
 * set_join() - take a seat in a set that runs
 * @set: filled on success
 * @object: hash of the object file, set_object()
 * @user: map of this process's struct bpf_user, frozen
 *
 * Context: sleeps. Return: 0; -ENOENT when there is none that has one for us; -EPERM when we
 * may not look.
 */
int set_join(struct set *set, u64 object, int user);

/* the same in a set that this process has loaded; 0 or -errno */
int set_sit(struct set *set, int user);

/* ask the program; what it answers, or -errno */
int set_ask(const struct set *set, enum bpf_what what, u64 nr);

/* the same with all that can be asked; the program answers in q, too */
int set_run(const struct set *set, struct bpf_ask *q);

/* the kernel skipped so many runs since this process came, and in total */
int set_note_missed(const struct set *set, u64 missed, u64 total);

/* runs of the set's programs that the kernel skipped so far; 0 or -errno */
int set_missed(const struct set *set, u64 *ret_missed);

/* give back the seat, and clear those that others left, if we may */
void set_leave(struct set *set);

/* close a BPF object; not what has its number by now, where the program closed it itself */
void set_close_fd(int fd);

/* close what we hold */
void set_release(struct set *set);

/* load.c: the hash of the programs, and a new set of them, attached */
u64 set_object(void);
int set_load(struct set *set, u64 object, struct invlock_why *why);

struct bpf_object;

/**
 * attach_to_functions() - load the programs at functions, rather than those at tracepoints
 * @obj: opened, not loaded
 * @ret_preemptible: may a task be preempted inside of them?
 * @why: why not
 *
 * Return: 0; or -errno, when they might be missing somewhere.
 */
int attach_to_functions(struct bpf_object *obj, bool *ret_preemptible, struct invlock_why *why);

/* net.c: is this a program of the net? */
struct bpf_program;
bool net_has_program(const struct bpf_program *prog);

/* load the net as well; 0, or -errno: why not here */
int net_choose(struct bpf_object *obj, struct invlock_why *why);

/* a sentence for people: is it there, and what has it caught? */
void net_describe(const struct bpf_set_header *head, const struct bpf_state *state,
		  char *text, size_t size);

/* is no program at a function taken off now? 0 or -errno */
int attach_ask_kernel(struct invlock_why *why);

#endif /* INVLOCK_LIB_MONITOR_BPF_PROGSET_H */
