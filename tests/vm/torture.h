/* SPDX-License-Identifier: MIT */
/*
 * Storms change the pages of memory whose content must survive. The oracle is a set of counters in
 * that memory: the program and the device both add to them. A device that acts on a stale
 * translation adds to a page that is no longer there, so the sum is wrong in the end. Or it reads a
 * value that is older than one that was certainly there.
 *
 * Nothing here uses the asserts of cmocka, because it also runs in processes that are about to be
 * killed.
 */
#ifndef INVLOCK_TESTS_VM_TORTURE_H
#define INVLOCK_TESTS_VM_TORTURE_H

#include "device.h"

/* There are two mappings: private memory, and a memfd. A storm truncates the tail of the memfd. */
#define REGION		(2 * MIB)
#define TAIL		(16 * PAGE)

/* the most that one storm changes at once */
#define STORM_PAGES	16
#define MAX_STORM	(STORM_PAGES * PAGE)

#define NR_CELLS	64
#define NR_ADDERS	3

/* One thread writes each number. The struct lies in shared memory, so it outlives the process. */
struct torture_results {
	uint64_t added[NR_ADDERS][NR_CELLS];
	uint64_t stale[NR_ADDERS];	/* reads older than what was certainly there */
	uint64_t refused[NR_ADDERS];	/* accesses to memory that was busy or not mapped */
	uint64_t wrong[NR_ADDERS];	/* accesses that failed as no storm explains */
};

struct torture {
	char *private;
	char *shared;
	char *away;			/* room to move a part to for a moment */
	int memfd;
	int fd;				/* of the mirror */
	bool closed;			/* fd was closed on purpose */
	bool stop;
	struct torture_results *results;
};

extern struct torture torture;

/*
 * make() makes a change and undoes it. Return: false if this kernel cannot; errno says why. It must
 * name the address of every mapping that it makes: an address that the kernel chooses may lie in a
 * hole which another storm has made for a moment. calm() ends what the kernel continues by itself;
 * it may be NULL.
 */
struct torture_storm {
	const char *name;
	bool (*make)(unsigned int nr);
	void (*calm)(void);
	bool rare;	/* the kernel may never choose the pages of the test */
};

extern const struct torture_storm torture_storms[];
extern const unsigned int nr_torture_storms;

/* Move this process to its own cgroup, if there are cgroups, or back to the first one. */
void torture_join_cgroup(bool join);

/* Return: counter @nr, alone on its page: in private memory if @nr is even, else in the memfd. */
uint64_t *torture_cell(unsigned int nr);

/* Map the memory, which is zero. Return: did that work? */
bool torture_map(struct torture_results *results, int memfd);
void torture_unmap(void);

/*
 * Run @nr storms for @seconds, and after that until the device has lost translations, but for no
 * more than five minutes longer. Return: a mask of the storms that this kernel cannot make.
 */
unsigned int torture_run(const struct torture_storm *storms, unsigned int nr,
			 unsigned int seconds);

/* Have invalidations hit translations often enough for the test to mean something? */
bool torture_has_met(void);

/*
 * Return: the number of additions that were lost, in every @step-th cell from @first on, beyond the
 * @tolerated ones
 */
uint64_t torture_lost(unsigned int first, unsigned int step, uint64_t tolerated);

#endif /* INVLOCK_TESTS_VM_TORTURE_H */
