// SPDX-License-Identifier: MIT
/* Each kind of change is made for real, and must be seen if and only if the monitor claims it. */
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/shm.h>
#include <sys/uio.h>

#include "rig.h"

#define BYTES	(8 * PAGE)
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif

static int fd = -1;	/* the file that is mapped, if there is one */

/* ---- memory to change; each returns MAP_FAILED if this machine has no such memory ---- */

static void *anon(void)
{
	void *p = map_at(NULL, BYTES, 0);

	if (p != MAP_FAILED)
		memset(p, 1, BYTES);
	return p;
}

static void *memfd_mapped(int flags)
{
	void *p;

	fd = memfd_create("uffd", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, BYTES))
		return MAP_FAILED;
	p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (p != MAP_FAILED)
		memset(p, 1, BYTES);
	return p;
}

static void *shared(void)
{
	return memfd_mapped(MAP_SHARED);
}

static void *private_file(void)
{
	return memfd_mapped(MAP_PRIVATE);
}

static void *heap_end(void)
{
	char *p = sbrk(0);

	/* The heap ends on a page boundary, so that shrinking it removes whole pages. */
	if (brk(p + PAGE + BYTES))
		return MAP_FAILED;
	p = (char *)(((unsigned long)p + PAGE - 1) & ~(PAGE - 1));
	memset(p, 1, BYTES);
	return p;
}

static void *sysv(void)
{
	int id = shmget(IPC_PRIVATE, BYTES, 0600);
	void *p = id < 0 ? (void *)-1 : shmat(id, NULL, 0);

	if (id >= 0)
		shmctl(id, IPC_RMID, NULL);
	return p == (void *)-1 ? MAP_FAILED : p;
}

/* ---- changes; each returns -errno if it could not be made ---- */

static int done(long ret)
{
	return ret == -1 ? -errno : 0;
}

static int by_munmap(void *p)
{
	return done(munmap(p, BYTES));
}

static int by_munmap_of_the_middle(void *p)
{
	return done(munmap((char *)p + 2 * PAGE, PAGE));
}

static int by_fixed(void *p)
{
	return map_at(p, BYTES, MAP_FIXED) == p ? 0 : -errno;
}

static int by_mremap_away(void *p)
{
	void *to = map_at(NULL, BYTES, 0);

	return done((long)mremap(p, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, to));
}

static int by_mremap_dontunmap(void *p)
{
	return done((long)mremap(p, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
}

static int by_mremap_shrink(void *p)
{
	return done((long)mremap(p, BYTES, PAGE, 0));
}

static int by_mremap_grow_and_move(void *p)
{
	void *to = map_at(NULL, 2 * BYTES, 0);

	return done((long)mremap(p, BYTES, 2 * BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, to));
}

static int by_mremap_onto(void *p)
{
	void *from = map_at(NULL, BYTES, 0);

	return done((long)mremap(from, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, p));
}

static int by_dontneed(void *p)
{
	return done(madvise(p, BYTES, MADV_DONTNEED));
}

static int by_dontneed_locked(void *p)
{
	return done(madvise(p, BYTES, MADV_DONTNEED_LOCKED));
}

static int by_process_madvise(void *p)
{
	struct iovec iov = { p, BYTES };
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int err = done(syscall(SYS_process_madvise, self, &iov, 1, MADV_DONTNEED, 0));

	close(self);
	return err;
}

static int by_free(void *p)
{
	return done(madvise(p, BYTES, MADV_FREE));
}

static int by_remove(void *p)
{
	return done(madvise(p, BYTES, MADV_REMOVE));
}

static int by_guard(void *p)
{
	return done(madvise(p, BYTES, MADV_GUARD_INSTALL));
}

static int by_brk(void *p)
{
	return done(brk(p));
}

static int by_shmdt(void *p)
{
	return done(shmdt(p));
}

static int by_shm_remap(void *p)
{
	int id = shmget(IPC_PRIVATE, BYTES, 0600);
	int err = done((long)shmat(id, p, SHM_REMAP));

	shmctl(id, IPC_RMID, NULL);
	return err;
}

static int by_remap_file_pages(void *p)
{
	return done(remap_file_pages(p, PAGE, 0, 3, 0));
}

static int by_ftruncate(__attribute__((unused)) void *p)
{
	return done(ftruncate(fd, 0));
}

static int by_punch(__attribute__((unused)) void *p)
{
	return done(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BYTES));
}

static int by_mprotect(void *p)
{
	return done(mprotect(p, BYTES, PROT_NONE));
}

/* io_uring without liburing: one request, which the kernel must give to a worker. */
static int by_uring(void *p)
{
	struct io_uring_params params = {};
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params), err = -ENOSYS;
	size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(__u32);
	size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	struct io_uring_sqe *sqe;
	char *sq, *cq;

	if (ring < 0)
		return -errno;
	sq = mmap(NULL, sq_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, cq_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq != MAP_FAILED && cq != MAP_FAILED && sqe != MAP_FAILED) {
		*sqe = (struct io_uring_sqe){
			.opcode = IORING_OP_MADVISE, .fd = -1,
			.addr = (unsigned long)p, .len = BYTES,
			.fadvise_advice = MADV_DONTNEED,
		};
		*(__u32 *)(sq + params.sq_off.array) = 0;
		__atomic_store_n((__u32 *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
		err = syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1
			? ((struct io_uring_cqe *)(cq + params.cq_off.cqes))->res : -EIO;
	}
	munmap(sq, sq_bytes);
	munmap(cq, cq_bytes);
	munmap(sqe, PAGE);
	close(ring);
	return err;
}

static const struct way {
	const char *name;
	unsigned int kind;
	void *(*prepare)(void);
	int (*change)(void *p);
} ways[] = {
	{ "munmap", INVLOCK_KIND_UNMAP, anon, by_munmap },
	{ "munmap of the middle", INVLOCK_KIND_UNMAP, anon, by_munmap_of_the_middle },
	{ "munmap of a shared memfd", INVLOCK_KIND_UNMAP, shared, by_munmap },
	{ "munmap of a private file", INVLOCK_KIND_UNMAP, private_file, by_munmap },
	{ "munmap of sysv memory", INVLOCK_KIND_UNMAP, sysv, by_munmap },
	{ "mmap MAP_FIXED", INVLOCK_KIND_FIXED, anon, by_fixed },
	{ "mremap away", INVLOCK_KIND_REMAP_FROM, anon, by_mremap_away },
	{ "mremap of a memfd away", INVLOCK_KIND_REMAP_FROM, shared, by_mremap_away },
	{ "mremap DONTUNMAP", INVLOCK_KIND_REMAP_FROM, anon, by_mremap_dontunmap },
	{ "mremap to less", INVLOCK_KIND_REMAP_FROM, anon, by_mremap_shrink },
	{ "mremap to more, elsewhere", INVLOCK_KIND_REMAP_FROM, anon, by_mremap_grow_and_move },
	{ "mremap onto", INVLOCK_KIND_REMAP_TO, anon, by_mremap_onto },
	{ "MADV_DONTNEED", INVLOCK_KIND_DISCARD, anon, by_dontneed },
	{ "MADV_DONTNEED_LOCKED", INVLOCK_KIND_DISCARD, anon, by_dontneed_locked },
	{ "process_madvise", INVLOCK_KIND_DISCARD, anon, by_process_madvise },
	{ "MADV_FREE", INVLOCK_KIND_FREE, anon, by_free },
	{ "MADV_REMOVE", INVLOCK_KIND_REMOVE, shared, by_remove },
	{ "io_uring MADVISE", INVLOCK_KIND_URING, anon, by_uring },
	{ "brk", INVLOCK_KIND_BRK, heap_end, by_brk },
	{ "MADV_GUARD_INSTALL", INVLOCK_KIND_GUARD, anon, by_guard },
	{ "shmdt", INVLOCK_KIND_SHMDT, sysv, by_shmdt },
	{ "shmat SHM_REMAP", INVLOCK_KIND_SHM_REMAP, anon, by_shm_remap },
	{ "remap_file_pages", INVLOCK_KIND_REORDER, shared, by_remap_file_pages },
	{ "ftruncate", INVLOCK_KIND_TRUNCATE, shared, by_ftruncate },
	{ "punch hole", INVLOCK_KIND_TRUNCATE, shared, by_punch },
	{ "ftruncate under a private mapping", INVLOCK_KIND_TRUNCATE_PRIVATE, private_file,
	  by_ftruncate },
	{ "mprotect", INVLOCK_KIND_PROTECT, anon, by_mprotect },
};

/* Return: 1 = the change was seen; 0 = it was missed; -errno = it could not be made */
static int try(struct rig *rig, const struct way *way)
{
	struct translation t, beside;
	void *p = way->prepare(), *other = map_at(NULL, PAGE, 0);
	int err;

	if (p == MAP_FAILED)
		return -errno;
	assert_int_equal(translate(rig, p, BYTES, &t), 0);
	assert_int_equal(translate(rig, other, PAGE, &beside), 0);
	assert_true(is_valid(rig, &t));
	err = way->change(p);
	assert_true(is_valid(rig, &beside));
	if (!err)
		err = !is_valid(rig, &t);
	drop(rig, &t);
	drop(rig, &beside);
	munmap(other, PAGE);
	/* What is left at p stays: a hole there may be somebody else's memory by now. */
	if (fd >= 0)
		close(fd);
	fd = -1;
	return err;
}

TEST(each_kind_is_seen_or_missed_as_the_monitors_mask_says)
{
	unsigned int nr_wrong = 0;
	u64 tried = 0;
	struct rig rig;

	RIG_OPEN(&rig);
	for (unsigned int i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bool says = monitor_uffd.seen >> ways[i].kind & 1;
		int seen = try(&rig, &ways[i]);

		if (seen < 0)
			print_message("# %s: not made: %s\n", ways[i].name, strerror(-seen));
		else if (seen != says)
			print_message("# %s: %s, the mask says otherwise\n", ways[i].name,
				      seen ? "seen" : "missed");
		/* io_uring may be forbidden on a machine that allows userfaultfd. */
		if (seen >= 0 || seen == -ENOSYS || seen == -EPERM)
			tried |= 1ULL << ways[i].kind;
		nr_wrong += seen >= 0 && seen != says;
	}
	rig_close(&rig);
	assert_int_equal(nr_wrong, 0);
	/* Every kind in the mask must have been tried. */
	assert_int_equal(monitor_uffd.seen & ~tried, 0);
	assert_int_equal(monitor_uffd.exact & ~monitor_uffd.seen, 0);
}

TEST(a_change_elsewhere_leaves_translations_valid_through_the_ring)
{
	struct translation t, moved;
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, 4 * PAGE, 0);
	assert_int_equal(translate(&rig, p, PAGE, &t), 0);
	for (int i = 0; i < 1000; i++) {
		/*
		 * A change in the same stripe, and most likely of the same word; it moves the
		 * sequence at least.
		 */
		assert_int_equal(translate(&rig, p + 2 * PAGE, PAGE, &moved), 0);
		assert_true(map_at(p + 2 * PAGE, PAGE, MAP_FIXED) == p + 2 * PAGE);
		assert_false(is_valid(&rig, &moved));
		assert_true(is_valid(&rig, &t));
		drop(&rig, &moved);
	}
	assert_int_equal(rig.mm.il.feed->lost, 0);
	drop(&rig, &t);
	munmap(p, 4 * PAGE);
	rig_close(&rig);
}

TEST(a_mapping_that_replaced_a_watched_one_is_watched_by_the_next_translation)
{
	struct translation old, new;
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, PAGE, 0);
	assert_int_equal(translate(&rig, p, PAGE, &old), 0);
	assert_true(map_at(p, PAGE, MAP_FIXED) == p);
	/* The first translation has not been dropped yet, so its range still counts. */
	assert_int_equal(translate(&rig, p, PAGE, &new), 0);
	drop(&rig, &old);
	assert_true(is_valid(&rig, &new));
	assert_int_equal(munmap(p, PAGE), 0);
	assert_false(is_valid(&rig, &new));
	drop(&rig, &new);
	rig_close(&rig);
}

TEST(after_a_discard_is_marked_and_made_its_range_is_usable_again)
{
	struct translation t;
	struct rig rig;
	char *p;

	RIG_OPEN(&rig);
	p = map_at(NULL, 200 * PAGE, 0);
	/* more ranges at once than the quarantine has room for */
	for (int i = 0; i < 200; i++)
		assert_int_equal(translate(&rig, p + i * PAGE, PAGE, &t), 0);
	for (int round = 0; round < 20; round++)
		for (int i = 0; i < 200; i++)
			assert_int_equal(madvise(p + i * PAGE, PAGE, MADV_DONTNEED), 0);
	for (int i = 0; i < 200; i++)
		assert_int_equal(translate(&rig, p + i * PAGE, PAGE, &t), 0);
	assert_true(is_valid(&rig, &t));
	/* A range is usable a moment before its place in the quarantine is free. */
	while (port_load(&rig_uffd(&rig)->thread->nr_quarantined))
		sched_yield();
	rig_close(&rig);
	munmap(p, 200 * PAGE);
}

TEST_MAIN()
