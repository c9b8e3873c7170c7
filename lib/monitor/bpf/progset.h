/* SPDX-License-Identifier: MIT */
/*
 * A set of programs in the kernel, which is shared by all processes of a machine that use the BPF
 * monitor. Each additional set costs every system call of every process some 60 ns.
 *
 * Nothing is pinned in a file system. Each process that uses a set holds descriptors of all its
 * links and programs, and these hold the maps. If one process dies, the set goes on for the others.
 * The set is gone when its last user is.
 *
 * A process finds the running sets by asking the kernel for all links and programs, which takes
 * CAP_SYS_ADMIN. Without that capability, the process loads a set of its own. It also loads a set
 * if no running set meets all these conditions:
 *
 * - It is complete, and of exactly this build of the library, as the hash of the object file tells.
 * - It was loaded by a process that had CAP_SYS_ADMIN, too, as the kernel tells (loader.h): the
 *   process that loads a set can put any map and any program into it.
 * - It has a seat left, and no seat of this mm, which another copy of the library may hold.
 *
 * Processes that start at the same moment take turns (turn.h), so that one of them loads a set and
 * the others find it. Should two load a set all the same, each of them then looks again, and takes
 * the set whose last link came first, so that one set is left. If the owner of that set dies just
 * then, two sets run for a while: their costs add up, but nothing else happens.
 */
#ifndef INVLOCK_LIB_MONITOR_BPF_PROGSET_H
#define INVLOCK_LIB_MONITOR_BPF_PROGSET_H

#include <invlock/mm.h>
#include "bpf/shared.h"
#include "core/port.h"

#define PROGSET_ROOM	128

/* A map of the set that holds maps. */
struct progset_map {
	u32 id;
	int fd;			/* -1 once this process has a seat */
};

struct progset {
	u32 id;			/* id of its map invlock_set; 0 = no set */
	struct progset_map users, tables;
	u32 loaded_by;		/* id of this program */
	u32 last_link;
	struct bpf_set_header header;
	unsigned int nr_programs, nr_links;
	int programs[PROGSET_ROOM];
	int links[PROGSET_ROOM];
	/* also in programs; look: -1 = no guard */
	int ask, scan_calls, scan_files, sit_by_reading, look;
	u32 seat;
	bool keeps_maps;	/* the daemon's: its users and tables stay open */
};

#define PROGSETS_ROOM	16

/* The sets of which we have seen a link. */
struct progsets {
	struct progset set[PROGSETS_ROOM];
	unsigned int nr;
};

/*
 * Finds the running sets of all builds. Each holds descriptors, so progset_release() is due.
 * Return: 0; -errno = we may not ask. A link or program that ends meanwhile is passed over.
 */
int progsets_look(struct progsets *sets);

/* A set that holds no descriptor. */
#define PROGSET_NONE	(struct progset){					\
	.users.fd = -1, .tables.fd = -1, .ask = -1, .scan_calls = -1,		\
	.scan_files = -1, .sit_by_reading = -1, .look = -1,			\
}

/* The maps that a process puts into its seat, frozen. */
struct seat_maps {
	int user;		/* struct bpf_user */
	int tables;		/* struct bpf_tables; -1 once the seat has it */
};

/**
 * progset_join() - take a seat in a set that runs
 * @set: filled on success
 * @object: hash of the object file, progset_object_hash()
 * @maps: of this process
 *
 * Context: sleeps. Return: 0; -ENOENT = no running set has a seat for us; -EPERM = we may not look.
 */
int progset_join(struct progset *set, u64 object, const struct seat_maps *maps);

/* Takes a seat in a set that this process has loaded. Return: 0 or -errno. */
int progset_sit(struct progset *set, const struct seat_maps *maps);

/* Puts maps into a seat that is claimed or reserved. Return: 0 or -errno. */
int progset_put_maps(const struct progset *set, u32 seat, const struct seat_maps *maps);

/* Clears all seats that were left, so that they are free. */
void progset_clear_left(struct progset *set);

/* Sends a request about any seat to the program ask(). Return: its answer, or -errno. */
int progset_ask_of(const struct progset *set, enum bpf_what what, u32 seat, u64 nr);

/* Sends a request to the program ask(). Return: its answer, or -errno. */
int progset_ask(const struct progset *set, enum bpf_what what, u64 nr);

/* Sends any request, with all its fields; the program also answers in q. */
int progset_run(const struct progset *set, struct bpf_ask *q);

/* Reports to the program how many runs were skipped since this process came, and in total. */
int progset_note_missed(const struct progset *set, u64 missed, u64 total);

/* Counts the runs of the set's programs that the kernel has skipped so far. Return: 0 or -errno. */
int progset_missed(const struct progset *set, u64 *ret_missed);

/* Gives back the seat, and clears the seats that others left, if we may. */
void progset_leave(struct progset *set);

/*
 * Closes a BPF object. If the process has closed it itself, its number may now mean another file,
 * which stays open.
 */
void progset_close_fd(int fd);

/* Closes all descriptors that this set holds. */
void progset_release(struct progset *set);

/* In load.c: the hash of the object file, and the loading and attaching of a new set. */
u64 progset_object_hash(void);
int progset_load(struct progset *set, u64 object, struct invlock_why *why);

/* Adds to an error of loading that the kernel is locked down, if it is. */
void explain_lockdown(struct invlock_why *why);

/* How often this process has loaded a set; for tests. Guarded by the lock in mm.c. */
extern unsigned int set_nr_loaded;

struct bpf_object;

/**
 * attach_to_functions() - choose the programs at functions, rather than those at tracepoints
 * @obj: opened, not loaded
 * @ret_preemptible: may a task be preempted inside these programs?
 * @why: filled on error
 *
 * Return: 0; -errno = the programs might miss a call somewhere.
 */
int attach_to_functions(struct bpf_object *obj, bool *ret_preemptible, struct invlock_why *why);

/* In net.c: is this a program of the net? */
struct bpf_program;
bool net_has_program(const struct bpf_program *prog);

/* Choose the programs of the net as well. Return: 0; -errno = this kernel cannot have the net. */
int net_choose(struct bpf_object *obj, struct invlock_why *why);

/* Writes a sentence for people: is there a net, and what has it caught? */
void net_describe(const struct bpf_set_header *head, const struct bpf_state *state,
		  char *text, size_t size);

/* Checks that programs at functions are not switched off now. Return: 0 or -errno. */
int attach_ask_kernel(struct invlock_why *why);

#endif /* INVLOCK_LIB_MONITOR_BPF_PROGSET_H */
