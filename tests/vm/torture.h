/* SPDX-License-Identifier: MIT */
/*
 * Storms on memory whose content must survive them, and the oracle: counters in that memory,
 * to which the program and the device add. A device that acts on a stale translation adds to
 * a page that is no longer there, so that in the end the sum is wrong; or it reads what is
 * older than what was surely there.
 *
 * Nothing here asserts: it also runs in processes that are about to be killed.
 */
#ifndef INVLOCK_TESTS_VM_TORTURE_H
#define INVLOCK_TESTS_VM_TORTURE_H

#include "device.h"

/* two mappings, private memory and a memfd; the last pages of the memfd come and go */
#define REGION		(2 * MIB)
#define TAIL		(16 * PAGE)

/* what one storm changes at once, at most */
#define MAX_STORM	(16 * PAGE)

#define NR_CELLS	64
#define NR_ADDERS	3

/* each number is written by one thread; where they lie they outlive a killed process */
struct torture_results {
	uint64_t added[NR_ADDERS][NR_CELLS];
	uint64_t stale[NR_ADDERS];	/* older than what was surely there */
	uint64_t refused[NR_ADDERS];	/* busy, not mapped or not writable just then */
	uint64_t wrong[NR_ADDERS];	/* with an error that no storm explains */
};

struct torture {
	char *private;
	char *shared;
	char *away;			/* where a part may be moved for a moment */
	int memfd;
	int fd;				/* of the mirror */
	bool closed;			/* it is, on purpose */
	bool stop;
	struct torture_results *results;
};

extern struct torture torture;

/*
 * make() makes a change and undoes it. Return: false = this kernel cannot, errno says why.
 * It maps nothing where the kernel likes: that may be a hole which another storm has made.
 * calm() ends what goes on by itself; may be NULL.
 */
struct torture_storm {
	const char *name;
	bool (*make)(unsigned int nr);
	void (*calm)(void);
	bool rare;	/* may leave just these pages alone */
};

extern const struct torture_storm torture_storms[];
extern const unsigned int nr_torture_storms;

/* a cgroup of its own, if there are any */
void torture_join_cgroup(bool join);

/* a counter of its own page: even numbers are private, odd ones shared */
uint64_t *torture_cell(unsigned int nr);

/* new memory, all zero. Return: there is some */
bool torture_map(struct torture_results *results, int memfd);
void torture_unmap(void);

/*
 * Storm @nr of @storms for @seconds, and until the device has lost translations; for a
 * minute more at most. Return: a mask of those that this kernel cannot make.
 */
unsigned int torture_run(const struct torture_storm *storms, unsigned int nr,
			 unsigned int seconds);

/* has the device lost translations, as often as it takes to have shown something? */
bool torture_has_met(void);

/* additions that are lost, of the cells from @first on in steps of @step */
uint64_t torture_lost(unsigned int first, unsigned int step, uint64_t tolerated);

#endif /* INVLOCK_TESTS_VM_TORTURE_H */
