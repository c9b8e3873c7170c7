/* SPDX-License-Identifier: MIT */
/*
 * Changes: every way to change a memory map that we know, made for real.
 *
 * Each change prepares memory of its own, translates it in a read section, changes the map, and
 * asks whether the translation is still valid. The self-test at open makes those that are listed
 * here; `invlock doctor` and the tests also make those of tool/changes/.
 */
#ifndef INVLOCK_LIB_SELFTEST_MAP_CHANGE_H
#define INVLOCK_LIB_SELFTEST_MAP_CHANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <invlock/mm.h>

enum change_verdict {
	CHANGE_MISSED,		/* the map changed, a translation of it still validates */
	CHANGE_SEEN,
	CHANGE_REFUSED,		/* the monitor does not let such memory be translated: safe */
	CHANGE_UNKNOWN,		/* could not be made here; see the reason */
	NR_CHANGE_VERDICTS
};

struct change_result {
	enum change_verdict verdict;
	char reason[160];	/* of UNKNOWN and REFUSED; of SEEN, where there is more to say */
};

struct trial;

/**
 * struct map_change - one way to change a memory map
 * @name: for people and JSON, as "munmap (raw system call)"; unique
 * @kind: enum invlock_kind
 * @run: private: makes it, and says what came of it; see trial.h
 * @make: private, for run functions that serve several changes: 0, or -1 and errno
 * @how: private, the same
 */
struct map_change {
	const char *name;
	enum invlock_kind kind;
	void (*run)(struct trial *t);
	int (*make)(void *addr, size_t len);
	unsigned int how;
};

/*
 * Each list ends with a change that has no name. These changes need no other process, no other
 * thread and no file on a disk.
 */
extern const struct map_change map_changes[];
extern const struct map_change advise_changes[];
extern const struct map_change truncate_changes[];	/* of memfds */

/* "seen", "missed", "refused", "unknown" */
const char *change_verdict_name(enum change_verdict verdict);

/**
 * map_change_test() - make one change and see whether the monitor saw it
 * @c: the change
 * @mm: the mm
 * @ret: always filled
 *
 * Other threads may run, and change other memory. Leaves the map as it was.
 * Context: may sleep; not in a signal handler.
 */
void map_change_test(const struct map_change *c, struct invlock_mm *mm, struct change_result *ret);

#endif /* INVLOCK_LIB_SELFTEST_MAP_CHANGE_H */
