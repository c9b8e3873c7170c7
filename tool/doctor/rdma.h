/* SPDX-License-Identifier: MIT */
/*
 * What doctor finds out about RDMA: are there devices, and do libfabric and UCX, if a program used
 * them here, never use a stale registration?
 *
 *	rdma.c		looks, and loads both libraries in processes of their own
 *	rdma_text.c	says it in sentences
 */
#ifndef INVLOCK_TOOL_DOCTOR_RDMA_H
#define INVLOCK_TOOL_DOCTOR_RDMA_H

#include <limits.h>
#include <stdbool.h>

#include "lib/explain.h"

#define MAX_NAMES	32

struct name_list {
	unsigned int nr;
	char names[MAX_NAMES][32];
};

/* libfabric or UCX, as the dynamic linker finds it for a program that is started as doctor was */
struct rdma_library {
	bool found;
	char version[40];		/* empty = unknown */
	char error[200];		/* why it cannot be loaded or asked; empty = it can */
	char loaded[PATH_MAX];		/* our part, where it was loaded from; empty = it was not */
	char installed[PATH_MAX];	/* our part, where it is installed; empty = it is not */
	/* of libfabric alone: its providers that work here */
	struct name_list cached;	/* those that use its cache of registrations */
	struct name_list uncached;
	bool too_old;			/* it takes no monitor from outside */
	bool disabled;			/* the environment has switched its cache off */
};

struct rdma {
	struct name_list devices;
	struct name_list closed;	/* those that this user may not open */
	struct rdma_library libfabric, ucx;
};

/* Where to look, if not at this machine. */
struct rdma_places {
	const char *devices;		/* a folder of sysfs, an entry for each device */
	const char *nodes;		/* the folder of their nodes */
	const char *libfabric, *ucx;	/* names of libraries */
	const char *plugin, *preload;	/* paths of our parts */
};

/* rdma.c. @places: NULL = where this machine has them */
void probe_rdma(struct rdma *rdma, const struct rdma_places *places);

/* rdma_text.c: a sentence for each row of the report, with advice where something is missing */
bool rdma_is_here(const struct rdma *rdma);
void rdma_devices_text(const struct rdma *rdma, struct invlock_why *ret_text);
void rdma_libfabric_text(const struct rdma *rdma, struct invlock_why *ret_text);
void rdma_ucx_text(const struct rdma *rdma, struct invlock_why *ret_text);

#endif /* INVLOCK_TOOL_DOCTOR_RDMA_H */
