// SPDX-License-Identifier: MIT
/* Every system call that changes a map, through libc, syscall() and int 0x80. */
#include <linux/aio_abi.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/uio.h>
#include "rig.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#endif

static struct invlock_mm mm;
static char *other;	/* a stripe that is not watched: mremap moves pages into it or out of it */
static int shm = -1;
static struct iovec iov[2];

static int open_all(void **state)
{
	(void)state;
	shm = shmget(IPC_PRIVATE, GROUP, IPC_CREAT | 0600);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	if (mm.data)
		monitor_close(&mm);
	return shmctl(shm, IPC_RMID, NULL);
}

/* The ways to change the victim v: each returns the call's result, 0 or -1. */

static long ok(long ret)
{
	return ret == -1 || (ret < 0 && ret > -4096) ? -1 : 0;
}

static long libc_munmap(char *v) { return munmap(v, GROUP); }
static long sys_munmap(char *v) { return syscall(SYS_munmap, v, GROUP); }
static long i386_munmap(char *v) { return ok(raw_i386(91, (long)v, GROUP, 0, 0, 0, 0)); }
static long last_page(char *v) { return munmap(v + GROUP - PAGE, PAGE); }
static long odd_length(char *v) { return munmap(v - PAGE, PAGE + 1); }

static long libc_fixed(char *v)
{
	return ok((long)mmap(v, GROUP, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
}

static long sys_fixed(char *v)
{
	return ok(syscall(SYS_mmap, v, GROUP, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			  -1, 0));
}

static long i386_fixed(char *v)
{
	long ret = raw_i386(192, (long)v, GROUP, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			    -1, 0);

	return (unsigned int)ret == (unsigned int)(uintptr_t)v ? 0 : -1;
}

static long i386_old_fixed(char *v)
{
	/* the arguments, in memory that an i386 pointer reaches */
	u32 *vec = (u32 *)other;

	vec[0] = (uintptr_t)v;
	vec[1] = GROUP;
	vec[2] = PROT_READ;
	vec[3] = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	vec[4] = -1;
	vec[5] = 0;
	return (unsigned int)raw_i386(90, (long)vec, 0, 0, 0, 0, 0) == vec[0] ? 0 : -1;
}

static long remap_away(char *v)
{
	return ok((long)mremap(v, GROUP, GROUP, MREMAP_MAYMOVE | MREMAP_FIXED, other));
}

static long remap_grow(char *v) { return ok((long)mremap(v, GROUP, 2 * STRIPE, MREMAP_MAYMOVE)); }
static long remap_shrink(char *v) { return ok((long)mremap(v - PAGE, GROUP + PAGE, PAGE, 0)); }

static long remap_leave(char *v)
{
	return ok((long)mremap(v, GROUP, GROUP, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
}

static long sys_remap_away(char *v)
{
	return ok(syscall(SYS_mremap, v, GROUP, GROUP, MREMAP_MAYMOVE | MREMAP_FIXED, other));
}

static long i386_remap_away(char *v)
{
	long ret = raw_i386(163, (long)v, GROUP, GROUP, MREMAP_MAYMOVE | MREMAP_FIXED,
			    (long)other, 0);

	return (unsigned int)ret == (unsigned int)(uintptr_t)other ? 0 : -1;
}

static long remap_onto(char *v)
{
	return ok((long)mremap(other, GROUP, GROUP, MREMAP_MAYMOVE | MREMAP_FIXED, v));
}

static long sys_remap_onto(char *v)
{
	return ok(syscall(SYS_mremap, other, GROUP, GROUP, MREMAP_MAYMOVE | MREMAP_FIXED, v));
}

static long dontneed(char *v) { return madvise(v, GROUP, MADV_DONTNEED); }
static long sys_dontneed(char *v) { return syscall(SYS_madvise, v, GROUP, MADV_DONTNEED); }

static long i386_dontneed(char *v)
{
	return ok(raw_i386(219, (long)v, GROUP, MADV_DONTNEED, 0, 0, 0));
}

static long dontneed_locked(char *v) { return madvise(v, GROUP, MADV_DONTNEED_LOCKED); }
static long free_lazily(char *v) { return madvise(v, GROUP, MADV_FREE); }
static long remove_pages(char *v) { return madvise(v, GROUP, MADV_REMOVE); }
static long guard(char *v) { return madvise(v, GROUP, MADV_GUARD_INSTALL); }

static long advise_self(char *v)
{
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	long ret;

	iov[0] = (struct iovec){ v, GROUP };
	ret = syscall(SYS_process_madvise, pidfd, iov, 1, MADV_DONTNEED, 0);
	close(pidfd);
	return ret == (long)GROUP ? 0 : -1;
}

static long detach(char *v)
{
	return shmdt(v);
}

static long i386_detach(char *v) { return ok(raw_i386(398, (long)v, 0, 0, 0, 0, 0)); }
static long i386_ipc_detach(char *v) { return ok(raw_i386(117, 22, 0, 0, 0, (long)v, 0)); }
static long attach_over(char *v) { return ok((long)shmat(shm, v, SHM_REMAP)); }

static long i386_attach_over(char *v)
{
	return raw_i386(397, shm, (long)v, SHM_REMAP, 0, 0, 0) == (long)v ? 0 : -1;
}

static long reorder(char *v)
{
	return syscall(SYS_remap_file_pages, v, GROUP, 0, 3, 0);
}

/* Preparations: each replaces the victim's memory by the kind that the way needs. */
static void shm_there(char *v)
{
	munmap(v, GROUP);
	assert_ptr_equal(shmat(shm, v, 0), v);
}

static void other_there(char *v)
{
	(void)v;
	assert_ptr_not_equal(mmap(other, GROUP, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), MAP_FAILED);
}

static void shared_there(char *v)
{
	assert_ptr_not_equal(mmap(v, GROUP, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0), MAP_FAILED);
	memset(v, 1, GROUP);
}

static const struct way {
	const char *name;
	u32 kind;
	long (*change)(char *victim);
	void (*prepare)(char *victim);
	bool new_kernels;	/* may fail with EINVAL on older ones */
	bool i386;		/* a call as i386 programs make them */
	bool wide;		/* its arguments lie in memory, so everything becomes stale */
} ways[] = {
	{ "munmap", INVLOCK_KIND_UNMAP, libc_munmap },
	{ "munmap, syscall()", INVLOCK_KIND_UNMAP, sys_munmap },
	{ "munmap, int 0x80", INVLOCK_KIND_UNMAP, i386_munmap, .i386 = true },
	{ "munmap of the last page", INVLOCK_KIND_UNMAP, last_page },
	{ "munmap of a page and one byte", INVLOCK_KIND_UNMAP, odd_length },
	{ "MAP_FIXED", INVLOCK_KIND_FIXED, libc_fixed },
	{ "MAP_FIXED, syscall()", INVLOCK_KIND_FIXED, sys_fixed },
	{ "MAP_FIXED, int 0x80", INVLOCK_KIND_FIXED, i386_fixed, .i386 = true },
	{ "MAP_FIXED, old mmap, int 0x80", INVLOCK_KIND_FIXED, i386_old_fixed, other_there,
	  .i386 = true, .wide = true },
	{ "mremap away", INVLOCK_KIND_REMAP_FROM, remap_away },
	{ "mremap that grows and moves", INVLOCK_KIND_REMAP_FROM, remap_grow },
	{ "mremap that shrinks", INVLOCK_KIND_REMAP_FROM, remap_shrink },
	{ "mremap DONTUNMAP", INVLOCK_KIND_REMAP_FROM, remap_leave },
	{ "mremap away, syscall()", INVLOCK_KIND_REMAP_FROM, sys_remap_away },
	{ "mremap away, int 0x80", INVLOCK_KIND_REMAP_FROM, i386_remap_away, .i386 = true },
	{ "mremap onto", INVLOCK_KIND_REMAP_TO, remap_onto, other_there },
	{ "mremap onto, syscall()", INVLOCK_KIND_REMAP_TO, sys_remap_onto, other_there },
	{ "DONTNEED", INVLOCK_KIND_DISCARD, dontneed },
	{ "DONTNEED, syscall()", INVLOCK_KIND_DISCARD, sys_dontneed },
	{ "DONTNEED, int 0x80", INVLOCK_KIND_DISCARD, i386_dontneed, .i386 = true },
	{ "DONTNEED_LOCKED", INVLOCK_KIND_DISCARD, dontneed_locked },
	{ "FREE", INVLOCK_KIND_FREE, free_lazily },
	{ "REMOVE", INVLOCK_KIND_REMOVE, remove_pages, shared_there },
	{ "GUARD_INSTALL", INVLOCK_KIND_GUARD, guard, NULL, true },
	{ "process_madvise of ourselves", INVLOCK_KIND_DISCARD, advise_self, NULL, true,
	  .wide = true },
	{ "shmdt", INVLOCK_KIND_SHMDT, detach, shm_there },
	{ "shmdt, int 0x80", INVLOCK_KIND_SHMDT, i386_detach, shm_there, .i386 = true },
	{ "shmdt, ipc, int 0x80", INVLOCK_KIND_SHMDT, i386_ipc_detach, shm_there, .i386 = true },
	{ "shmat SHM_REMAP", INVLOCK_KIND_SHM_REMAP, attach_over },
	{ "shmat SHM_REMAP, int 0x80", INVLOCK_KIND_SHM_REMAP, i386_attach_over, .i386 = true },
	{ "remap_file_pages", INVLOCK_KIND_REORDER, reorder, shared_there },
};

#define TRIES	10

/* The change, and what is known of the victim afterwards. */
static void change_victim(const struct way *way, struct watched *victim)
{
	const struct invlock_event *ev;

	if (way->change(victim->at)) {
		if (!way->new_kernels || errno != EINVAL)
			fail_msg("%s failed: %s", way->name, strerror(errno));
		print_message("# %s: this kernel does not have it\n", way->name);
	}
	if (watched_verdict(victim) != INVLOCK_STALE)
		fail_msg("%s: not seen", way->name);
	if (!feed_quiet(&mm))
		fail_msg("%s: its event never ended", way->name);
	ev = last_event(&mm, way->kind, victim->at);
	if (!ev || ev->tid != (u32)gettid())
		fail_msg("%s: the ring has no event of its kind", way->name);
}

/* Return: is the bystander as it must be? */
static bool try_way(const struct way *way)
{
	char *stripe = stripe_new();
	struct watched victim, bystander;
	enum invlock_verdict expected = way->wide ? INVLOCK_STALE : INVLOCK_VALID, verdict;
	u64 word;

	other = stripe_new();
	if (way->prepare)
		way->prepare(stripe + VICTIM);
	/*
	 * While a mapping is not known, the event of any file counts everywhere. Look it up first.
	 */
	assert_int_equal(monitor_bpf_note_missed(&mm), 0);
	watched_sample(&victim, &mm, stripe + VICTIM);
	watched_sample(&bystander, &mm, stripe + BYSTANDER);
	word = bystander.snap.words;

	change_victim(way, &victim);
	verdict = watched_verdict(&bystander);
	if (verdict == INVLOCK_VALID && bystander.snap.words == word)
		fail_msg("%s: the bystander's words did not move: a useless test", way->name);
	stripe_free(stripe);
	stripe_free(other);
	return verdict == expected;
}

/*
 * What others do to their files counts everywhere while a mapping of ours is not known. This can
 * come about in any change, when the kernel is too busy to be asked: then the way is tried again.
 */
static void check_way(const struct way *way)
{
	for (unsigned int tries = 0; tries < TRIES; tries++)
		if (try_way(way))
			return;
	fail_msg("%s: the bystander is %s", way->name, way->wide ? "valid" : "stale");
}

TEST(each_call_makes_its_own_range_stale_and_not_the_rest_of_its_stripe)
{
	monitor_open(&mm);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (RAW_HAS_I386 || !ways[i].i386)
			check_way(&ways[i]);
	monitor_close(&mm);
	mm.data = NULL;
}

TEST(brk_that_shrinks_makes_the_top_of_the_heap_stale)
{
	struct watched top, below;
	char *end, *stripe = stripe_new();

	monitor_open(&mm);
	end = sbrk(2 * GROUP);
	assert_ptr_not_equal(end, (void *)-1);
	end = (char *)(((uintptr_t)end + PAGE - 1) & ~(PAGE - 1));
	watched_sample(&top, &mm, end);
	watched_sample(&below, &mm, stripe);
	assert_int_equal(brk(end), 0);
	assert_int_equal(watched_verdict(&top), INVLOCK_STALE);
	assert_int_equal(watched_verdict(&below), INVLOCK_VALID);
	assert_non_null(last_event(&mm, INVLOCK_KIND_BRK, end));
	assert_true(feed_quiet(&mm));
	stripe_free(stripe);
	monitor_close(&mm);
	mm.data = NULL;
}

TEST(shmdt_makes_its_segment_stale_and_nothing_above_it)
{
	char *stripe = stripe_new();
	struct watched segment, above;

	monitor_open(&mm);
	shm_there(stripe + VICTIM);
	watched_sample(&segment, &mm, stripe + VICTIM);
	watched_sample(&above, &mm, stripe + VICTIM + GROUP);
	assert_int_equal(shmdt(stripe + VICTIM), 0);
	assert_int_equal(watched_verdict(&segment), INVLOCK_STALE);
	assert_int_equal(watched_verdict(&above), INVLOCK_VALID);
	stripe_free(stripe);
	monitor_close(&mm);
	mm.data = NULL;
}

TEST(destroying_an_aio_context_makes_its_ring_stale)
{
	aio_context_t ctx = 0;
	struct watched ring;

	monitor_open(&mm);
	if (syscall(SYS_io_setup, 64, &ctx)) {
		monitor_close(&mm);
		mm.data = NULL;
		TEST_SKIP("io_setup: %s", strerror(errno));
	}
	watched_sample(&ring, &mm, (char *)ctx);
	assert_int_equal(syscall(SYS_io_destroy, ctx), 0);
	assert_int_equal(watched_verdict(&ring), INVLOCK_STALE);
	assert_true(feed_quiet(&mm));
	monitor_close(&mm);
	mm.data = NULL;
}

TEST(process_madvise_with_two_ranges_makes_everything_stale)
{
	char *stripe = stripe_new();
	struct watched far;
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);

	monitor_open(&mm);
	watched_sample(&far, &mm, stripe + BYSTANDER);
	iov[0] = (struct iovec){ stripe + VICTIM, PAGE };
	iov[1] = (struct iovec){ stripe + VICTIM + PAGE, PAGE };
	syscall(SYS_process_madvise, pidfd, iov, 2, MADV_DONTNEED, 0);
	assert_int_equal(watched_verdict(&far), INVLOCK_STALE);
	assert_true(feed_quiet(&mm));
	close(pidfd);
	stripe_free(stripe);
	monitor_close(&mm);
	mm.data = NULL;
}

TEST(a_range_that_wraps_makes_everything_above_its_start_stale)
{
	char *stripe = stripe_new();
	struct watched far;

	monitor_open(&mm);
	watched_sample(&far, &mm, stripe + VICTIM + GROUP);
	assert_int_equal(syscall(SYS_munmap, stripe + VICTIM, -PAGE), -1);
	assert_int_equal(watched_verdict(&far), INVLOCK_STALE);
	assert_true(feed_quiet(&mm));
	stripe_free(stripe);
	monitor_close(&mm);
	mm.data = NULL;
}

TEST(calls_that_change_nothing_are_no_events)
{
	char *stripe = stripe_new();
	u64 before;

	monitor_open(&mm);
	before = mm.il.feed->sequence;
	assert_int_equal(mprotect(stripe, PAGE, PROT_READ), 0);
	assert_int_equal(madvise(stripe, PAGE, MADV_WILLNEED), 0);
	assert_int_equal(madvise(stripe, PAGE, MADV_DONTFORK), 0);
	assert_int_equal(madvise(stripe, PAGE, MADV_WIPEONFORK), 0);
	syscall(SYS_madvise, stripe, 0, MADV_DONTNEED);
	syscall(SYS_munmap, stripe, 0);
	assert_ptr_equal(mmap(stripe, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS |
			      MAP_FIXED_NOREPLACE, -1, 0), MAP_FAILED);
	assert_ptr_equal(mremap(stripe, PAGE, PAGE, 0), stripe);
	assert_int_equal(syscall(SYS_brk, 0) == -1, 0);
	assert_int_equal(mm.il.feed->sequence - before, 0);
	stripe_free(stripe);
	monitor_close(&mm);
	mm.data = NULL;
}

TEST(mprotect_is_an_event_only_for_a_process_that_asks_for_it)
{
	char *stripe = stripe_new();
	struct watched victim;

	monitor_bpf_options.count_protect = true;
	monitor_open(&mm);
	monitor_bpf_options.count_protect = false;
	watched_sample(&victim, &mm, stripe + VICTIM);
	assert_int_equal(mprotect(stripe + VICTIM, PAGE, PROT_READ), 0);
	assert_int_equal(watched_verdict(&victim), INVLOCK_STALE);
	assert_non_null(last_event(&mm, INVLOCK_KIND_PROTECT, stripe + VICTIM));
	stripe_free(stripe);
	monitor_close(&mm);
	mm.data = NULL;
}

TEST_MAIN(.before_all = open_all, .after_all = close_all)
