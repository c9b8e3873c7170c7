/* SPDX-License-Identifier: MIT */
/* What the ways to change memory share: see test_changes.c. */
#ifndef INVLOCK_TESTS_BPF_CHANGES_H
#define INVLOCK_TESTS_BPF_CHANGES_H

#include "rig.h"

struct way {
	const char *name;
	bool (*memory)(void);	/* makes the page; false: there is none of this kind here */
	int (*change)(void);	/* 0, or -1 where this kernel or file system does not know it */
	void (*after)(void);	/* NULL, or puts back what is not fd's */
};

extern char *page;	/* the page that is pinned, the fifth of its mapping and file */
extern int fd;		/* the file that it is of; -1: none */

/* maps GROUP bytes of fd and writes to them */
bool map_group(int flags);

/* changes that files and other memory have in common */
int collapse_pages(void);
int offline_softly(void);
int page_out(void);
int zap(void);

/* the ways to change a file, until one without a name */
extern const struct way file_ways[];

#endif /* INVLOCK_TESTS_BPF_CHANGES_H */
