/* SPDX-License-Identifier: MIT */
/*
 * The rig of these tests: the BPF monitor, opened as lib/mm.c opens it, and memory to change.
 *
 * stripe_new() returns one stripe of the feed, with two groups of pages: a change of the victim
 * must make its snapshot stale, and leave the snapshot of the bystander valid, although it moves
 * the bystander's word.
 */
#ifndef INVLOCK_TESTS_BPF_RIG_H
#define INVLOCK_TESTS_BPF_RIG_H

#include "tests/arch.h"
#include "tests/hold.h"
#include "tests/test.h"
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "core/port_raw.h"
#include "core/read.h"
#include "lib/monitor/monitor.h"
#include "lib/monitor/bpf/bpf.h"
#include "lib/monitor/bpf/progset.h"

#define STRIPE		(1UL << INVLOCK_STRIPE_SHIFT)
#define GROUP_PAGES	8
#define GROUP		(GROUP_PAGES * PAGE)

/*
 * Their places in a stripe. A range without an end begins at the victim, so the bystander is below.
 */
#define BYSTANDER	(32 * PAGE)
#define VICTIM_GROUPS	8
#define VICTIM		(VICTIM_GROUPS * GROUP)

/* Opens the monitor. Skips the test if that needs a privilege which this process lacks. */
void monitor_open(struct invlock_mm *mm);
/* Closes it. Fails the test if the net under the decoder caught something that is not expected. */
void monitor_close(struct invlock_mm *mm);
extern bool rig_expects_caught;

/* Skips the test as monitor_open() does, before something begins that a skip would leave behind. */
void monitor_need(void);

/* A stripe of zeroed, touched private memory below 4 GiB, where i386 calls reach it. */
char *stripe_new(void);
void stripe_free(char *stripe);

/* Whether no invalidation is running on any word. Waits while a CPU is blind. */
bool feed_quiet(const struct invlock_mm *mm);

/* What core says of a range. Both wait while a CPU is blind. */
int seeing_sample(const struct invlock *il, u64 start, u64 end, struct invlock_snapshot *ret);
enum invlock_verdict seeing_verdict(const struct invlock *il, struct invlock_snapshot *snap,
				    u64 start, u64 end);

struct watched {
	struct invlock_mm *mm;
	char *at;
	struct invlock_snapshot snap;
};

/* Both wait as well. */
void watched_sample(struct watched *w, struct invlock_mm *mm, char *at);
enum invlock_verdict watched_verdict(struct watched *w);

/* The newest event of this kind that overlaps [at, at + GROUP); NULL = the ring has none. */
const struct invlock_event *last_event(const struct invlock_mm *mm, u32 kind, const char *at);

/* Fails if the feed is closed, and says why it is. */
void expect_open(const struct invlock_mm *mm);

struct bpf_state monitor_state(const struct invlock_mm *mm);

/* Makes an i386 system call from 64-bit code. */

/* The set of programs that @mm uses: the first member of the monitor's data. */
static inline const struct progset *progset_of(const struct invlock_mm *mm)
{
	return mm->data;
}

/* A descriptor of the map with this name that a program uses; needs root; -1 = none. */
int map_of_program(int prog, const char *name);

/*
 * Copies what the guard has counted since these programs were loaded; zeros if there is no guard.
 */
void guard_read(const struct invlock_mm *mm, struct bpf_guard *ret);

/* Only for tests that run in a guest: both functions change the whole machine. */
void write_setting(const char *path, const char *value);
/*
 * "full": the kernel preempts its own code from now on; "voluntary": it does not; NULL: as it was
 * before the first of these calls. Return: false = this kernel cannot do that: newer ones know only
 * "full" and "lazy", which both preempt.
 */
bool set_preemption(const char *model);

/*
 * From now on a discard of this memory stays in its call until it is released. Return: the
 * userfaultfd that holds the call, to be closed; -1 and errno on error
 */
int hold_discards(char *at, size_t len);

/* Waits until a discard is held. */
void await_discard(int uffd);

/* Waits for a discard, and releases it. */
void release_discard(int uffd);

/* The number of open descriptors of this process. */
unsigned int count_fds(void);

static inline void nap_ms(unsigned int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

#endif /* INVLOCK_TESTS_BPF_RIG_H */
