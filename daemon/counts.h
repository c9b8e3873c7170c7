/* SPDX-License-Identifier: MIT */
/* What the daemon counts from its start on, for metrics.h. */
#ifndef INVLOCK_DAEMON_COUNTS_H
#define INVLOCK_DAEMON_COUNTS_H

#include "bpf/shared.h"
#include "core/port.h"

/* Why a request or a connection was refused. */
enum refusal {
	REFUSED_POLICY,		/* this user gets no feed */
	REFUSED_QUOTA,		/* this user, or all together, have as many feeds as they may */
	REFUSED_SEATS,		/* all seats are taken */
	REFUSED_CONNECTIONS,	/* too many connections that ask for nothing */
	REFUSED_VERSION,	/* the client is of another version */
	REFUSED_PROTOCOL,	/* the client did something wrong */
	REFUSED_OTHER,		/* the kernel refused something to the daemon */
	NR_REFUSALS
};

#define NR_CLOSED	(BPF_CLOSED_EVICTED + 1)

struct daemon_counts {
	u64 given;		/* feeds given out */
	u64 refused[NR_REFUSALS];
	u64 closed[NR_CLOSED];	/* feeds that were closed, by enum bpf_closed */
	u64 events;		/* of feeds that have ended */
};

/* Counts a refusal. @err: -errno that the client is told. */
void counts_refuse(struct daemon_counts *counts, int err);

#endif /* INVLOCK_DAEMON_COUNTS_H */
