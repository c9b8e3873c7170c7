/* SPDX-License-Identifier: MIT */
/* Runs commands that print how many messages were stale, and reads that. */
#ifndef INVLOCK_TESTS_RDMA_COMMAND_H
#define INVLOCK_TESTS_RDMA_COMMAND_H

#include <glob.h>

#include "tests/test.h"

#define ALONE		150	/* messages of a control */
#define WITH		1100
#define PLUGIN		"FI_PROVIDER_PATH=/usr/lib/invlock/libfabric INVLOCK_STATS=1 "
#define PRELOAD		"LD_PRELOAD=/usr/lib/invlock/libinvlock-ucx-preload.so"

/* The guest runs everything with kmod, and then with a monitor that is named, for less time. */
static inline unsigned int enough_of(unsigned int messages)
{
	return getenv("INVLOCK_MONITOR") ? messages / 4 : messages;
}

/* Some Debian's UCX is built without verbs: there is nothing to test with it. */
static inline void need_verbs_of_ucx(void)
{
	glob_t found;
	int err = glob("/usr/lib/*/ucx/libuct_ib.so*", 0, NULL, &found);

	globfree(&found);
	if (err)
		TEST_SKIP("the UCX of this Debian is built without verbs");
}

struct result {
	int status;
	unsigned int messages, stale;
	unsigned long hits;		/* of all processes */
	unsigned int complaints;	/* lines that begin with invlock: and are no statistics */
	char complaint[300];
};

static inline void read_line(struct result *r, const char *line)
{
	unsigned long lookups, hits, forgotten;
	unsigned int stale, messages;

	if (sscanf(line, "%u stale of %u messages", &stale, &messages) == 2) {
		r->stale = stale;
		r->messages = messages;
	} else if (sscanf(line, "invlock: libfabric, process %*d: %lu lookups, %lu hits", &lookups,
		   &hits) == 2) {
		r->hits += hits;
	} else if (sscanf(line, "invlock: UCX, process %*d: %lu checks, %lu forgotten", &lookups,
			  &forgotten) == 2) {
		r->hits += lookups - forgotten;
	} else if (!strncmp(line, "invlock:", 8)) {
		r->complaints++;
		snprintf(r->complaint, sizeof(r->complaint), "%.299s", line);
	}
}

/* Runs a command of the shell and prints what it says. */
static inline struct result run(const char *environment, const char *command, unsigned int messages,
			 const char *rest)
{
	struct result r = {};
	char line[4096];
	FILE *said;

	snprintf(line, sizeof(line), "%s timeout 600 %s %u %s 2>&1 < /dev/null", environment,
		 command, messages, rest);
	printf("# %s\n", line);
	said = popen(line, "r");
	assert_non_null(said);
	while (fgets(line, sizeof(line), said)) {
		printf("#   %s", line);
		read_line(&r, line);
	}
	r.status = pclose(said);
	fflush(stdout);
	return r;
}

static inline void goes_stale(const char *environment, const char *command, const char *rest)
{
	struct result r = run(environment, command, ALONE, rest);

	assert_true(r.messages > ALONE / 2);
	assert_true(r.stale > 0);
}

static inline struct result stays_right(const char *environment, const char *command,
					const char *rest)
{
	struct result r = run(environment, command, enough_of(WITH), rest);

	/* some kernels know no change for every twentieth */
	assert_true(r.messages > enough_of(WITH) / 10 * 9);
	assert_int_equal(r.stale, 0);
	return r;
}

#endif /* INVLOCK_TESTS_RDMA_COMMAND_H */
