/* SPDX-License-Identifier: MIT */
/*
 * invlock doctor: what works here, by trying it.
 *
 *	doctor.c	options, the verdict
 *	probe.c	each monitor, in a process of its own
 *	host.c	limits and permissions of this host
 *	text.c	the report for people
 *	json.c	the report for programs
 */
#ifndef INVLOCK_TOOL_DOCTOR_DOCTOR_H
#define INVLOCK_TOOL_DOCTOR_DOCTOR_H

#include <stdbool.h>
#include <sys/utsname.h>

#include "lib/selftest/change.h"
#include "lib/monitor/monitor.h"

#define MAX_CHANGES	64
#define MAX_MONITORS	8

enum selftest { SELFTEST_NOT_RUN, SELFTEST_PASSED, SELFTEST_FAILED };
extern const char *const selftest_names[];

/* what was found out about one monitor */
struct finding {
	const struct monitor *monitor;
	int err;			/* of opening it; 0 = usable */
	struct invlock_why why;		/* of err */
	struct invlock_why how;		/* it works here */
	enum selftest selftest;
	struct invlock_why selftest_why;
	struct change_result results[MAX_CHANGES];	/* by number of the change */
};

struct host {
	struct utsname kernel;
	u64 memlock, memlock_most;	/* bytes; RLIM_INFINITY = no limit */
	long max_map_count;		/* -1 = cannot be read */
	long mappings;
	bool cap_bpf, cap_perfmon, cap_ipc_lock;
	long uring_disabled;		/* the sysctl; -1 = there is none */
	int uring_error;		/* of a real try: 0 or an errno */
	int uffd_error;
	bool uffd_async;		/* what the uffd monitor needs of it */
	bool btf;
};

struct report {
	struct host host;
	struct finding findings[MAX_MONITORS];
	unsigned int nr_findings;
	unsigned int nr_changes;
	const struct finding *chosen;	/* by default; NULL = none can be */
	char recommendation[400];
};

/* probe.c */
void probe_monitor(struct finding *f, unsigned int nr_changes);

/* host.c */
void probe_host(struct host *host);

/* doctor.c: kinds that a cache asks for unless told otherwise, and that this one misses */
u64 finding_lacks(const struct finding *f);
/* a sentence on a result, "" where there is no more to say */
void result_reason(const struct finding *f, const struct change *c,
		   const struct change_result *r, char *ret_text, size_t len);

/* text.c, json.c: to stdout */
void print_text(const struct report *r);
int print_json(const struct report *r);

#endif /* INVLOCK_TOOL_DOCTOR_DOCTOR_H */
