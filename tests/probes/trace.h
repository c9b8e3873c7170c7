/* SPDX-License-Identifier: MIT */
/* What the tracer tells the test. */
#ifndef INVLOCK_TESTS_PROBES_TRACE_H
#define INVLOCK_TESTS_PROBES_TRACE_H

#define NR_ARGS	5

enum probe {
	PROBE_MISS, PROBE_REFUSED, PROBE_STALE, PROBE_EVICT, PROBE_REG, PROBE_DEREG, NR_PROBES
};

struct trace {
	unsigned long long nr;
	long long nr_args;
	long arg[NR_ARGS];
};

#endif /* INVLOCK_TESTS_PROBES_TRACE_H */
