/* SPDX-License-Identifier: MIT */
/* What tests and tools may know of the BPF monitor beyond its struct monitor. */
#ifndef INVLOCK_LIB_MONITOR_BPF_BPF_H
#define INVLOCK_LIB_MONITOR_BPF_BPF_H

#include "bpf/shared.h"
#include "lib/mm.h"

/**
 * struct monitor_bpf_options - read at the next open; tests make the tables small
 * @nr_calls: calls that may run at once, a power of two up to BPF_NR_CALLS
 * @nr_files: files that may be mapped, a power of two up to BPF_NR_FILES
 * @family: processes share only programs of the same family; tests that count programs have a
 *	family of their own
 * @count_protect: mprotect counts as an invalidation, too (INVLOCK_KIND_PROTECT)
 * @tracepoints: attach nothing at the functions of calls, even where that is possible
 * @guard: load the guard at tracepoints even where it is not needed
 * @turn_ns: how long to wait while another process loads a set; 0 = TURN_WAIT_NS
 * @only_join: load no set: the open fails unless one runs that has a seat for this process
 */
struct monitor_bpf_options {
	unsigned int nr_calls;
	unsigned int nr_files;
	u64 family;
	u64 turn_ns;
	bool count_protect;
	bool tracepoints;
	bool guard;
	bool only_join;
};

extern struct monitor_bpf_options monitor_bpf_options;

/**
 * monitor_bpf_state() - copy the state that the BPF program stores for a process
 * @mm: opened with monitor_bpf
 * @ret_state: filled
 *
 * Context: any; copies from memory that the BPF program writes.
 */
void monitor_bpf_state(const struct invlock_mm *mm, struct bpf_state *ret_state);

/**
 * monitor_bpf_closed() - why is the feed of a process closed?
 * @mm: opened with monitor_bpf
 *
 * Context: any. Return: the end of a sentence; NULL = the programs have not closed it.
 */
const char *monitor_bpf_closed(const struct invlock_mm *mm);

/*
 * From now on, hold the programs by their descriptors alone, as on a machine without io_uring
 * (keep.h).
 * Return: false = they were held by their descriptors alone before.
 */
bool monitor_bpf_let_go(const struct invlock_mm *mm);

/*
 * Copies the header of the set that this process uses: where its programs are attached, and why not
 * elsewhere.
 */
void monitor_bpf_set(const struct invlock_mm *mm, struct bpf_set_header *ret_header);

/**
 * monitor_bpf_note_missed() - ask the kernel whether it skipped a run of the program
 * @mm: opened with monitor_bpf
 *
 * If the kernel skipped runs since the last call, feed.missed grows and every translation becomes
 * stale, unless the guard has already made stale what had to be. Skipped runs that the guard does
 * not know of close every feed. The kernel cannot be asked if the process has closed our
 * descriptors. Then every translation becomes stale for good, unless the programs are kept attached
 * (keep.h): in that case skipped runs go unseen from there on. This function also looks for files
 * whose mapping the BPF program could not look up, so that their place is known.
 * Context: a few system calls. Return: 0, or what the kernel said.
 */
int monitor_bpf_note_missed(const struct invlock_mm *mm);

#endif /* INVLOCK_LIB_MONITOR_BPF_BPF_H */
