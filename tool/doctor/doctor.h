/* SPDX-License-Identifier: MIT */
/*
 * invlock doctor: finds out what works on this host by trying it.
 *
 *	doctor.c	parses the options and recommends a monitor
 *	probe.c		tries each monitor in a process of its own
 *	host.c		reads the limits and permissions of this host
 *	rdma.c		looks for RDMA devices, libfabric and UCX
 *	text.c		prints the report for people
 *	json.c		prints the report for programs
 */
#ifndef INVLOCK_TOOL_DOCTOR_DOCTOR_H
#define INVLOCK_TOOL_DOCTOR_DOCTOR_H

#include <stdbool.h>
#include <sys/utsname.h>

#include "tool/changes/changes.h"
#include "lib/monitor/monitor.h"
#include "rdma.h"

#define MAX_CHANGES	64
#define MAX_MONITORS	8

enum selftest { SELFTEST_NOT_RUN, SELFTEST_PASSED, SELFTEST_FAILED };
extern const char *const selftest_names[];

/* What doctor found out about one monitor. */
struct finding {
	const struct monitor *monitor;
	int err;			/* why it cannot be opened; 0 = it is usable */
	struct invlock_why why;		/* err in words */
	struct invlock_why how;		/* how it works on this host; may be empty */
	u64 seen, exact;		/* masks of kinds, on this host */
	enum selftest selftest;
	struct invlock_why selftest_why;	/* why the self-test failed */
	struct change_result results[MAX_CHANGES];	/* indexed like map_change_at() */
};

struct host {
	struct utsname kernel;
	u64 memlock, memlock_most;	/* bytes; RLIM_INFINITY = no limit */
	long max_map_count;		/* -1 = unknown */
	long mappings;			/* of this process; -1 = unknown */
	bool user_namespace;		/* in which capabilities do not count */
	bool cap_bpf, cap_perfmon, cap_ipc_lock;
	long uring_disabled;		/* the sysctl; -1 = this kernel has none */
	int uring_error;		/* errno of a real attempt, or 0 */
	int uffd_error;			/* errno of a real attempt, or 0 */
	bool uffd_async;		/* asynchronous write protection works */
	bool btf;
};

struct report {
	struct host host;
	struct rdma rdma;
	struct finding findings[MAX_MONITORS];
	unsigned int nr_findings;
	unsigned int nr_changes;
	const struct finding *chosen;	/* what a cache would choose; NULL = none */
	/* if there is none: what it would choose if it needed fewer kinds; NULL = none either */
	const struct finding *with_fewer_kinds;
	struct invlock_why recommendation;
};

/* probe.c */
void probe_monitor(struct finding *f, unsigned int nr_changes);

/* host.c */
void probe_host(struct host *host);

/* doctor.c: a mask of the kinds that caches need by default and this monitor does not see */
u64 finding_lacks(const struct finding *f);
/* doctor.c: explain a verdict; the text is empty if the verdict needs no explanation */
void result_reason(const struct finding *f, const struct map_change *c,
		   const struct change_result *r, char *ret_text, size_t len);

/* text.c and json.c: print to standard output */
void print_text(const struct report *r);
int print_json(const struct report *r);

#endif /* INVLOCK_TOOL_DOCTOR_DOCTOR_H */
