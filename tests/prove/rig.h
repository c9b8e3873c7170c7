/* SPDX-License-Identifier: MIT */
/* Run the command as a program, and keep what it said. */
#ifndef INVLOCK_TESTS_PROVE_RIG_H
#define INVLOCK_TESTS_PROVE_RIG_H

#include <sys/types.h>

struct said {
	int code;		/* exit code, or 1000 + signal */
	char out[65536];
	char err[4096];
};

/* where, and as whom: all optional */
struct as {
	uid_t uid;		/* and gid; 0 = as the test */
	const char *tmpdir;
	void (*prepare)(void);	/* in the child, before the identity is given up */
	unsigned int signal_after_ms;
	int signal;
};

/* "invlock prove" with these words, NULL-terminated */
void prove(struct said *ret, const struct as *as, const char *const *words);

#define PROVE(said, as, ...) prove(said, as, (const char *const[]){ __VA_ARGS__, NULL })

/* the numbers of the last line, "stale: invlock 0, naive 12"; fails the test when it is another */
void last_line(const struct said *said, unsigned long long *ret_invlock,
	       unsigned long long *ret_naive);

/* fails, and shows what was said, unless it ended with this code */
void expect(const struct said *said, int code);

/* it ended well, and its last line says: invlock never, naive sometimes */
void expect_proof(const struct said *said);

/* a new empty directory on a disk, where anyone may make files; and its end, which must be empty */
void make_directory(char name[64]);
void remove_empty_directory(const char *name);

#endif /* INVLOCK_TESTS_PROVE_RIG_H */
