/* SPDX-License-Identifier: MIT */
/* Pages that leave a file, under a mapping of it. */
#ifndef INVLOCK_LIB_SELFTEST_TRUNCATE_H
#define INVLOCK_LIB_SELFTEST_TRUNCATE_H

#include "trial.h"

#define TRUNCATE_PUNCH		1u	/* a hole, and not the end */
#define TRUNCATE_ON_DISK	2u	/* a file, and not a memfd */
#define TRUNCATE_BY_OTHER	4u	/* by another process, which does not map the file */
#define TRUNCATE_PRIVATE	8u	/* under a private mapping, whose pages are copies */
#define TRUNCATE_DROPPED	16u	/* ... and the file's own pages have left the page cache */

/* 0, or -1 and errno: take the first len bytes out of the file, as @how says */
int truncate_file(int fd, size_t len, unsigned int how);

/* Maps t->len bytes of @fd, which the caller closes, and tries make(), which gets @arg. */
void truncate_trial(struct trial *t, int fd, int (*make)(struct trial *t, int fd, void *arg),
		    void *arg);

/* a make() for truncate_trial(): this process truncates; @arg is not used */
int truncate_self(struct trial *t, int fd, void *arg);

#endif /* INVLOCK_LIB_SELFTEST_TRUNCATE_H */
