/* SPDX-License-Identifier: MIT */
/*
 * What the adapter's tests share: a file with known bytes, opened with O_DIRECT, a ring, and an
 * adapter on that ring.
 */
#ifndef INVLOCK_TESTS_URING_RIG_H
#define INVLOCK_TESTS_URING_RIG_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <invlock/manual.h>
#include <invlock/uring.h>

#include "tests/test.h"

#define KIB		1024ul
#define MIB		(1024ul * KIB)
#define FILE_SIZE	(4 * MIB)
#define BUF		(64 * KIB)	/* the usual length of a buffer */

struct rig {
	struct io_uring ring;
	struct invlock_mm *mm;
	struct invlock_uring *uring;
	int fd;			/* O_DIRECT, FILE_SIZE bytes, each known */
	char why[sizeof(struct invlock_why)];	/* why the rig could not be set up */
};

/*
 * Opens the rig. If this machine does not allow that, the test is skipped; any other error fails
 * it.
 */
#define RIG_OPEN(rig, monitor, ring_flags, options)			\
do {									\
	int __err = rig_open(rig, monitor, ring_flags, options);	\
									\
	if (__err > 0)							\
		TEST_SKIP("%.160s", (rig)->why);				\
	if (__err)							\
		fail_msg("%s", (rig)->why);				\
} while (0)

/* Return: 0; 1 = this machine does not allow it; -errno */
int rig_open(struct rig *rig, const char *monitor, unsigned int ring_flags,
	     const struct invlock_uring_options *options);

/* A second rig, whose adapter joins that of the first one. Return: as rig_open() */
int rig_try_join(struct rig *rig, const struct rig *first, unsigned int ring_flags);

/* the same, and fails the test on any error */
void rig_join(struct rig *rig, const struct rig *first, unsigned int ring_flags);

/* Asserts that nothing is in flight and that no slot stays in use. */
void rig_close(struct rig *rig);

/* An unlinked file with the known bytes; -1 and errno on error. flags: O_DIRECT or 0. */
int known_file(int flags);

/* Whether buf contains the file's bytes at offset. */
bool holds(const void *buf, uint64_t offset, size_t len);

/* private anonymous memory, filled with a byte */
void *memory(size_t len, unsigned char fill);

/* Maps other pages at the same address, and reports that to the manual monitor. */
void replace(const struct rig *rig, void *buf, size_t len);

/* Submits the prepared request, waits for one CQE, and calls done. Return: the CQE's result */
int finish(struct rig *rig);

/* Makes one request from prep to done. Return: its result. ret_way may be NULL. */
int read_one(struct rig *rig, int fd, void *buf, size_t len, uint64_t offset, int *ret_way);
int write_one(struct rig *rig, int fd, const void *buf, size_t len, uint64_t offset, int *ret_way);

/* Prepares a read without submitting it. Return: its way */
int prepare(struct rig *rig, int fd, void *buf, size_t len, uint64_t offset,
	    struct invlock_uring_op *op);

/* Does what the adapter's ring_update() does, for tests that replace that function. */
int update_buffers(struct io_uring *ring, unsigned int off, const struct iovec *iovecs,
		   unsigned int nr);

struct invlock_uring_stats uring_stats(const struct rig *rig);
struct invlock_cache_stats cache_stats(const struct rig *rig);

/*
 * Runs a function in a forked child, and fails unless it returns 0. cmocka's asserts do not work
 * there.
 */
void in_child(int (*run)(void *arg), void *arg);

/* For a child: prints what was wrong, and returns 1 from the function. */
#define EXPECT(cond)							\
do {									\
	if (!(cond)) {							\
		dprintf(2, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
		return 1;						\
	}								\
} while (0)

#endif /* INVLOCK_TESTS_URING_RIG_H */
