/* SPDX-License-Identifier: MIT */
/* A daemon of this test's own, and clients of it: other processes (tests/bpf/others.h). */
#ifndef INVLOCK_TESTS_DAEMON_RIG_H
#define INVLOCK_TESTS_DAEMON_RIG_H

#include "tests/bpf/others.h"

#define NOBODY	65534

/*
 * Starts a daemon with this policy, and lets this process and its children find it. Skips the test
 * if the machine lets no BPF program be loaded.
 */
void daemon_start(const char *policy);

/* Makes the socket here, and passes it on to each daemon of this test, as systemd does. */
void daemon_be_systemd(void);

/* Ends it by this signal; 0: lets it end by SIGTERM, which must succeed. */
void daemon_end(int sig);

/* The fixture that ends it if a test has failed, and removes its folder. */
int daemon_gone(void **state);

/* Has the daemon said this? Waits for it for a while. */
bool daemon_said(const char *text);

/* How many descriptors does it have open? */
unsigned int daemon_files(void);

/* The maps that it has open. Waits until there are as many; 0: looks at once. */
struct maps {
	unsigned int nr;
	unsigned long bytes;
};

struct maps daemon_maps(unsigned int nr);

/* The programs of the daemon's set. */
struct programs {
	u32 id[256];
	unsigned int nr;
};

/* Which does the daemon that runs now hold? */
void daemon_programs(struct programs *ret);

/*
 * Do they run? The clients do not hold all of them: the daemon alone uses some. Do they all go,
 * within some time?
 */
bool programs_run(const struct programs *p);
bool programs_go(const struct programs *p);

/* Become another user, without privileges. */
void become(uid_t uid);
void become_nobody(void);

/* A number that makes the test longer: from the environment, or this one. */
unsigned int how_many(const char *variable, unsigned int otherwise);

/* The path of the daemon's socket. */
const char *daemon_socket(void);

/* A connection to it, on which any bytes can be sent. */
int daemon_connection(void);

#endif /* INVLOCK_TESTS_DAEMON_RIG_H */
