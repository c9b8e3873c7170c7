/* SPDX-License-Identifier: MIT */
/* What tests and tools may know of the BPF monitor beyond its struct monitor. */
#ifndef INVLOCK_LIB_MONITOR_BPF_BPF_H
#define INVLOCK_LIB_MONITOR_BPF_BPF_H

#include "bpf/shared.h"
#include "lib/mm.h"

/**
 * struct monitor_bpf_options - taken at the next open; tests make the tables small
 * @nr_calls: calls that may run at once, a power of two up to BPF_NR_CALLS
 * @nr_files: files that may be mapped, a power of two up to BPF_NR_FILES
 * @family: only programs of the same family are shared; tests that count them have their own
 * @count_protect: mprotect is an invalidation, too (INVLOCK_KIND_PROTECT)
 * @tracepoints: nothing at the functions of calls, even where it could be
 * @guard: at tracepoints, the guard even where it is not needed
 * @unsteady: programs do not forbid preemption even where they may, so that CPUs become blind
 */
struct monitor_bpf_options {
	unsigned int nr_calls;
	unsigned int nr_files;
	u64 family;
	bool count_protect;
	bool tracepoints;
	bool guard;
	bool unsteady;
};

extern struct monitor_bpf_options monitor_bpf_options;

/**
 * monitor_bpf_state() - look into the program
 * @mm: opened with monitor_bpf
 * @ret_state: filled
 *
 * Context: any, copies from memory that the program writes.
 */
void monitor_bpf_state(const struct invlock_mm *mm, struct bpf_state *ret_state);

/*
 * Hold the programs by their descriptors alone from now on, as where there is no io_uring (keep.h).
 * Return: false = they were not held otherwise.
 */
bool monitor_bpf_let_go(const struct invlock_mm *mm);

/* the set of programs that this process uses: where they are, and why not elsewhere */
void monitor_bpf_set(const struct invlock_mm *mm, struct bpf_set_header *ret_header);

/**
 * monitor_bpf_note_missed() - ask the kernel whether it skipped a run of the program
 * @mm: opened with monitor_bpf
 *
 * If it did since the last time, feed.missed grows and every translation becomes stale, unless the
 * guard has seen to that already; runs that it does not know of close every feed. If the kernel
 * cannot say, since the program closed our descriptors, they do for good, unless the programs
 * are kept attached (keep.h): then skipped runs go unseen from there on.
 * Also looks for files whose mapping the program could not look up, so that it knows where
 * they are.
 * Context: a few system calls. Return: 0, or what the kernel said.
 */
int monitor_bpf_note_missed(const struct invlock_mm *mm);

#endif /* INVLOCK_LIB_MONITOR_BPF_BPF_H */
