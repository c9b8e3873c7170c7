/* SPDX-License-Identifier: MIT */
/* What test_changes.c and changes_files.c share: ways to change memory. */
#ifndef INVLOCK_TESTS_BPF_CHANGES_H
#define INVLOCK_TESTS_BPF_CHANGES_H

#include "rig.h"

struct way {
	const char *name;
	bool (*memory)(void);	/* makes the page; false: this machine has no such memory */
	int (*change)(void);	/* 0, or -1 if this kernel or file system cannot */
	void (*after)(void);	/* puts back what closing fd does not; or NULL */
};

extern char *page;	/* the page that is pinned, the fifth of its mapping and file */
extern int fd;		/* the page's file; -1: none */

/* Maps GROUP bytes of fd and writes to them. */
bool map_group(int flags);

/* changes that apply to files and to other memory */
int collapse_pages(void);
int offline_softly(void);
int page_out(void);
int zap(void);

/* the ways to change a file; the last has no name */
extern const struct way file_ways[];

#endif /* INVLOCK_TESTS_BPF_CHANGES_H */
