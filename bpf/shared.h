/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What the BPF program and the library that loads it agree on. No ABI: they ship together. */
#ifndef INVLOCK_BPF_SHARED_H
#define INVLOCK_BPF_SHARED_H

#include <linux/types.h>

/* prctl(BPF_ARM_OPTION, cookie): "I consent to be watched", from the program's own process */
#define BPF_ARM_OPTION		0x494e564c

/* Calls that may run at once; a power of two. */
#define BPF_NR_CALLS		16384
/* Files mapped since the monitor was opened, or still mapped then. */
#define BPF_NR_FILES		8192
/* io_uring MADVISE requests that may run at once. */
#define BPF_NR_REQUESTS		4096

/* A thread that may be inside a call which began before the monitor was armed. */
struct bpf_busy {
	__u32 tid;	/* as its own pid namespace counts */
	__u32 nr;	/* the call */
};

/* What the library tells the program now and then. */
struct bpf_note {
	__u64 missed;	/* runs of all programs that the kernel skipped, so far */
};

/* Why all files count, not only those known to be mapped; a bit each, sticky. */
#define BPF_FILES_OVERFLOW	1u	/* the table of files is full */
#define BPF_FILES_UNKNOWN	2u	/* a mapping could not be looked up */

/* The program's own state; in user space only for tests and tools to look at. */
struct bpf_state {
	__u64 mm;		/* the mm that is watched; 0 = none */
	__u32 armed;		/* 1 for ever, once the cookie was shown */
	__u32 tgid;
	__u32 any_file;		/* BPF_FILES_*: events of files that are not in the table count */
	__u32 any_place;	/* where a file is mapped is not known: its events are everywhere */
	__u64 nr_requests;	/* io_uring requests that run */
	__u64 nr_unpaired;	/* calls whose enter was not seen */
	__u64 nr_healed;	/* calls whose exit was not seen */
};

#endif /* INVLOCK_BPF_SHARED_H */
