/* SPDX-License-Identifier: MIT */
/*
 * The rig of these tests: the BPF monitor, opened as lib/mm.c would, and memory to change.
 *
 * struct stripe is one stripe of the feed with three groups of pages: a change of the victim
 * must make its snapshot stale, and leave the bystander's, whose word it moves, valid.
 */
#ifndef INVLOCK_TESTS_BPF_RIG_H
#define INVLOCK_TESTS_BPF_RIG_H

#include "tests/test.h"
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "core/read.h"
#include "lib/monitor/monitor.h"
#include "lib/monitor/bpf/bpf.h"

#define PAGE		4096UL
#define STRIPE		(1UL << INVLOCK_STRIPE_SHIFT)
#define GROUP		(16 * PAGE)

/* where in a stripe; what is open above begins at the victim, so the bystander is below */
#define BYSTANDER	(32 * PAGE)
#define VICTIM		(128 * PAGE)

/* opens, or skips when this host does not let us, which only a privilege may decide */
void watch_open(struct invlock_mm *mm);
/* fails when the net under the decoder caught something, but where that is expected */
void watch_close(struct invlock_mm *mm);
extern bool rig_expects_caught;

/* a stripe of zeroed, touched private memory below 4 GiB, where i386 calls reach it */
char *stripe_new(void);
void stripe_free(char *stripe);

/* is nothing running on any word? */
bool feed_quiet(const struct invlock_mm *mm);

struct watched {
	struct invlock_mm *mm;
	char *at;
	struct invlock_snapshot snap;
};

void watched_sample(struct watched *w, struct invlock_mm *mm, char *at);
enum invlock_verdict watched_verdict(struct watched *w);

/* the newest event of a kind that overlaps [at, at + GROUP); NULL = none in the ring */
const struct invlock_event *last_event(const struct invlock_mm *mm, u32 kind, const char *at);

struct bpf_state watch_state(const struct invlock_mm *mm);

/* an i386 system call, from 64-bit code */
long int80(long nr, long a, long b, long c, long d, long e, long f);

/* the map of this name that a program uses, as only root may; -1 = none */
int map_of_program(int prog, const char *name);

/* what the guard has counted since these programs were loaded; zeroed where there is no guard */
void guard_read(const struct invlock_mm *mm, struct bpf_guard *ret);

/* for tests that run in a guest alone: both change the whole machine */
void write_setting(const char *path, const char *value);
/*
 * "full": the kernel preempts its own code from now on; "voluntary": it does not; NULL: as it was
 * before the first of these calls. false = this kernel cannot be told: newer ones know "full" and
 * "lazy" alone, and both preempt.
 */
bool set_preemption(const char *model);

/*
 * From now on a discard there stays in its call until it is released. The userfaultfd that holds
 * it, to be closed; -1 and errno where there is none
 */
int hold_discards(char *at, size_t len);

/* Wait for a discard, @timeout_ms long, or for ever if it is -1. Return: true = one is held. */
bool discard_is_held(int uffd, int timeout_ms);
void await_discard(int uffd);

/* Wait for a discard, and let it go on. */
void release_discard(int uffd);

/* open descriptors of this process */
unsigned int count_fds(void);

static inline void nap_ms(unsigned int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

#endif /* INVLOCK_TESTS_BPF_RIG_H */
