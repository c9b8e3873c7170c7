/* SPDX-License-Identifier: MIT */
/* Runs the command as a program, and returns its output. */
#ifndef INVLOCK_TESTS_PROVE_RIG_H
#define INVLOCK_TESTS_PROVE_RIG_H

#include <stdbool.h>
#include <sys/types.h>

struct said {
	int code;		/* exit code, or 1000 + signal */
	char out[65536];
	char err[4096];
};

/* Where and as which user the command runs; all of it is optional. */
struct as {
	uid_t uid;		/* user and group; 0 = those of the test */
	const char *tmpdir;
	void (*prepare)(void);	/* runs in the child before it changes its user */
	unsigned int signal_after_ms;	/* after the run has begun */
	int signal;
};

/* Runs "invlock prove" with these arguments, which end with NULL. */
void prove(struct said *ret, const struct as *as, const char *const *words);

#define PROVE(said, as, ...) prove(said, as, (const char *const[]){ __VA_ARGS__, NULL })

/*
 * The same for 2 seconds, and then for longer until @has_enough: on a busy machine a short run may
 * meet nothing by which it could prove anything.
 */
#define PROVE_UNTIL(has_enough, said, as, ...)					\
do {										\
	for (const char *const *s = prove_seconds; *s; s++) {			\
		PROVE(said, as, ##__VA_ARGS__, "--seconds", *s);		\
		if (has_enough)							\
			break;							\
	}									\
} while (0)
#define PROVE_UNTIL_JUDGED(said, as, ...)					\
	PROVE_UNTIL(has_judged(said), said, as, ##__VA_ARGS__)

extern const char *const prove_seconds[];

/* Has the run a verdict, or a reason why it has none that more time would not change? */
bool has_judged(const struct said *said);

/* The same, while the test goes on. What the command says until prove_end() fits into a pipe. */
struct proving {
	pid_t pid;
	int out, err;
};

void prove_begin(struct proving *ret, const struct as *as, const char *const *words);
bool prove_goes_on(const struct proving *p);
void prove_end(struct said *ret, const struct proving *p, const struct as *as);

/*
 * Reads the numbers of the last line, "stale: invlock 0, naive 12". Any other last line fails the
 * test.
 */
void last_line(const struct said *said, unsigned long long *ret_invlock,
	       unsigned long long *ret_naive);

/* Fails the test and shows the output, unless the command ended with this code. */
void expect(const struct said *said, int code);

/* Expects exit code 0, and a last line with no stale use of invlock and some of the naive cache. */
void expect_proof(const struct said *said);

/*
 * Makes an empty directory on a disk in which any user may make files. Removing it fails the test
 * unless it is empty.
 */
void make_directory(char name[64]);
void remove_empty_directory(const char *name);

#endif /* INVLOCK_TESTS_PROVE_RIG_H */
